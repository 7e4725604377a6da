# Prints what the kernel unpacked: the sha256 of every regular file onto the disk /dev/vda, as `sha256sum -z` prints it.
# The kernel's file systems are mounted beside the files of the initrd, not over them.
devices=/ocinitrd/dev
mkdir -p /ocinitrd/{dev,proc}
mount -t devtmpfs devtmpfs /ocinitrd/dev
mount -t proc proc /ocinitrd/proc
need modprobe sha256sum
files=()
for file in **; do
    [[ -f $file && ! -L $file && $file != ocinitrd/* ]] && files+=("$file")
done
load_modules virtio_pci virtio_blk
wait_for "$devices/vda"
for ((first = 0; first < ${#files[@]}; first += 200)); do
    sha256sum -z -- "${files[@]:first:200}" || fail "sha256sum ended with exit code $?"
done >"$devices/vda"
sync
say fact files "${#files[@]}"
say done
power_off /ocinitrd/proc
