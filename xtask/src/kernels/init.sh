#!/bin/busybox sh
# The first process of a guest. It runs what /suites names, one line each (name, limit in seconds, command), says on the
# serial line what became of it, and ends the machine.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run
/bin/busybox --install -s /bin
export PATH=/opt/lb:/usr/bin:/bin:/sbin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /run/netns
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
echo /sbin/modprobe > /proc/sys/kernel/modprobe
echo 'root:x:0:0::/:/bin/sh' > /etc/passwd
for driver in virtio_pci virtio_rng virtio_net; do modprobe $driver; done
ip link set lo up
ulimit -n 65536
export LB_BIN=/opt/lb/lb
# The firmware has left the line half written.
echo
{
    read -r LB_TEST_PATIENCE
    export LB_TEST_PATIENCE
    while read -r name limit command; do
        echo "@@ begin $name"
        # shellcheck disable=SC2086 -- a command is words.
        timeout "$limit" $command < /dev/null 2>&1
        echo "@@ end $name $?"
    done
} < /suites
poweroff -f
