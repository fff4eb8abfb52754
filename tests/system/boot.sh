#!/bin/sh
# Boots a real systemd in a container over the running root (nothing of the host is changed) and
# runs stemd's service in it: boot.sh INTERPRETER SITE-PACKAGES SOURCE-FOLDER. As root. Prints what
# the guest says; the guest's last line is "selftest: passed" or "selftest: failed WHERE".
set -eu
interpreter=$1 packages=$2 source=$3
work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
trap 'umount "$work/root" 2>/dev/null; umount "$work"; rmdir "$work"' EXIT
mkdir "$work/up" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/up,workdir=$work/work" "$work/root"
root=$work/root

# an environment where a service may look, with the packages of the one that runs the tests
version=$("$interpreter" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
site=/opt/stemd/lib/$version/site-packages
mkdir -p "$root/opt/stemd/bin" "$root$site" "$root/opt/stemd/source"
ln -s "$interpreter" "$root/opt/stemd/bin/python3"
echo "home = $(dirname "$interpreter")" >"$root/opt/stemd/pyvenv.cfg"
cat >"$root/opt/stemd/bin/stemd" <<PROGRAM
#!/opt/stemd/bin/python3
import sys
sys.path.insert(0, "/opt/stemd/source")
from stemd.cli.main import main
sys.exit(main())
PROGRAM
chmod 755 "$root/opt/stemd/bin/stemd"
PYTHONPATH="$source:$packages" "$interpreter" -m stemd install-service --root "$root" \
    --executable /opt/stemd/bin/stemd
mkdir -p "$root/etc/stemd" "$root/etc/credstore" "$root/etc/systemd/system"
cp "$source/tests/system/guest.toml" "$root/etc/stemd/stemd.toml"
printf 'a-secret-from-the-store\n' >"$root/etc/credstore/stemd.mqtt-password"
cp "$source/tests/system/guest.sh" "$root/etc/stemd-selftest.sh"
chmod 755 "$root/etc/stemd-selftest.sh"
cat >"$root/etc/systemd/system/selftest.service" <<UNIT
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=150
ExecStart=/bin/sh /etc/stemd-selftest.sh
StandardOutput=journal+console
StandardError=journal+console
ExecStopPost=/bin/systemctl poweroff --no-block
UNIT

timeout 200 script -qec "systemd-nspawn -D $root -b --register=no --keep-unit --private-network \
    --bind-ro=$packages:$site --bind-ro=$source:/opt/stemd/source \
    --console=interactive systemd.unit=multi-user.target systemd.wants=selftest.service" \
    /dev/null </dev/null
