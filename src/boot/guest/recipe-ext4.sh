# One GPT partition with ext4.
need mke2fs
load_modules ext4
wait_for /dev/vda1
mke2fs -q -t ext4 -U 0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d -L ocinitrd-root /dev/vda1
mkdir /ocinitrd/target
mount -t ext4 /dev/vda1 /ocinitrd/target
populate /ocinitrd/target
umount /ocinitrd/target
sync
say done
power_off
