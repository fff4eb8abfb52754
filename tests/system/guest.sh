# Runs inside the container: the service is started, watched, reloaded, killed, stopped.
fail() {
    echo "selftest: failed $1"
    systemctl status --no-pager -l stemd.service || true
    journalctl -u stemd --no-pager -n 40 || true
    exit 1
}
property() { systemctl show -P "$1" stemd.service; }
wait_for() { # wait_for SECONDS WHAT COMMAND...
    seconds=$1 what=$2
    shift 2
    for _ in $(seq $((seconds * 5))); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    fail "$what"
}
other_pid() { [ "$(property MainPID)" != "$1" ] && [ "$(property ActiveState)" = active ]; }

systemd-sysusers || fail sysusers
mkdir -p /run/systemd/system/stemd.service.d
printf '[Service]\nWatchdogSec=4\n' >/run/systemd/system/stemd.service.d/quick.conf
systemctl daemon-reload
systemctl start stemd || fail "start: READY did not come"
[ "$(property ActiveState)" = active ] || fail "not active"
case "$(property StatusText)" in *cam:*) ;; *) fail "no STATUS line" ;; esac
[ "$(stat -c %U /var/lib/stemd/catalogue.sqlite)" = stemd ] || fail "the catalogue's owner"
ls /var/cache/stemd/* >/dev/null || fail "kernels are not cached"
echo "selftest: started, $(property StatusText)"

pid=$(property MainPID)
sleep 6
[ "$(property MainPID)" = "$pid" ] || fail "the watchdog struck a healthy daemon"
[ "$(property NRestarts)" = 0 ] || fail "restarted while healthy"
systemctl reload stemd || fail reload
sleep 1
[ "$(property MainPID)" = "$pid" ] || fail "reload restarted the daemon"
journalctl -u stemd --no-pager | grep -q "config read again" || fail "reload was not told"
if journalctl -u stemd --no-pager | grep -q "a-secret-from-the-store"; then fail "secret in log"; fi
echo "selftest: watched and reloaded"

kill -STOP "$pid"
wait_for 30 "a hung daemon was not restarted" other_pid "$pid"
[ "$(property NRestarts)" = 1 ] || fail "restarts: $(property NRestarts)"
journalctl -u stemd --no-pager | grep -qi watchdog || fail "no word of the watchdog"
echo "selftest: hung, struck by the watchdog, restarted"

pid=$(property MainPID)
kill -KILL "$pid"
wait_for 30 "a killed daemon was not restarted" other_pid "$pid"
echo "selftest: killed and restarted"

began=$(date +%s%N)
systemctl stop stemd || fail stop
took=$((($(date +%s%N) - began) / 1000000))
[ "$(property Result)" = success ] || fail "stopped with $(property Result)"
[ "$(property ExecMainStatus)" = 0 ] || fail "exit status $(property ExecMainStatus)"
[ "$took" -lt 2000 ] || fail "stopping took $took ms"
echo "selftest: stopped in $took ms"

sed -i 's/^data_port.*/data_prot = 1/' /etc/stemd/stemd.toml
systemctl start stemd && fail "a wrong config was accepted"
sleep 4
[ "$(property ExecMainStatus)" = 2 ] || fail "wrong config: status $(property ExecMainStatus)"
[ "$(property NRestarts)" = 0 ] || fail "a wrong config was tried again"
echo "selftest: a wrong config is refused once"
echo "selftest: passed"
