#!/bin/sh
# The newest finished riCOM image as a TIFF file, and what stemd does now, with mosquitto's clients:
#     examples/images.sh 127.0.0.1 1883 titan merlin ricom.tif
# The bytes of a message are the file: any program that reads TIFF opens it.
set -eu
host=$1 port=$2 base=stemd/$3/$4 file=$5
mosquitto_sub -h "$host" -p "$port" -t "$base/state" -C 1 -W 10
mosquitto_sub -h "$host" -p "$port" -t "$base/image/ricom/last" -C 1 -W 10 -N > "$file"
# a setting: stemd answers on the topic reply
mosquitto_pub -h "$host" -p "$port" -t "$base/settings/set" \
    -m '{"id": "shell-1", "ricom": {"kernel_size": 21}}'
