# Signs the packages in /repository and makes its metadata, with rpm 6 and what else a Debian suite has that is newer than the
# host's: run in a container of the builder image by src/tools.rs.
#     finish-repository EPOCH SIGNING_TIME FIRST_KEY SECOND_KEY PACKAGE...
# The PACKAGEs, by file name, are signed with both keys, the others with the first. Programs that the image lacks are
# installed from /debs, and secret keys are in /gnupg.
set -eu
epoch=$1 signing_time=$2 first=$3 second=$4
shift 4

dpkg --install /debs/*.deb > /dev/null
export GNUPGHOME=/tmp/gnupg
mkdir -m 0700 "$GNUPGHOME"
gpg --batch --quiet --import /gnupg/*.secret.asc

# sign KEY OPTION... FILE...
sign() {
    key=$1
    shift
    rpmsign --define "_gpg_name $key" --define "_gpg_sign_cmd_extra_args --faked-system-time $signing_time" --addsign "$@" > /tmp/log 2>&1 || {
        cat /tmp/log >&2
        return 1
    }
}

cd /repository/Packages
if [ $# -gt 0 ]; then
    # A second signature is one of rpm 6; only beside another of them do both count.
    sign "$first" --rpmv4 --rpmv6 "$@"
    sign "$second" --rpmv6 "$@"
fi
for file in *.rpm; do
    case " $* " in
        *" $file "*) ;;
        *) echo "$file" ;;
    esac
done > /tmp/once
# shellcheck disable=SC2046 # names of packages have no spaces
[ ! -s /tmp/once ] || sign "$first" $(cat /tmp/once)
touch --date="@$epoch" -- *.rpm

cd /repository
createrepo_c --quiet --no-database --general-compress-type=zstd --set-timestamp-to-revision --revision="$epoch" .

# This createrepo_c is built without zchunk, which Fedora's repositories have beside: the same is made with zchunk's own tools.
size() {
    stat --format=%s "$1"
}
digest() {
    sha256sum "$1" | cut --delimiter=' ' --fields=1
}
field() {
    zck_read_header /tmp/chunked | sed --quiet "s/^$1: //p"
}
for kind in primary filelists other; do
    python3 -c 'import sys; from compression import zstd; sys.stdout.buffer.write(zstd.decompress(sys.stdin.buffer.read()))' \
        < "$(echo repodata/*-$kind.xml.zst)" > /tmp/plain
    zck --split='<package ' --output=/tmp/chunked /tmp/plain
    file=repodata/$(digest /tmp/chunked)-$kind.xml.zck
    echo "  <data type=\"${kind}_zck\">
    <checksum type=\"sha256\">$(digest /tmp/chunked)</checksum>
    <open-checksum type=\"sha256\">$(digest /tmp/plain)</open-checksum>
    <header-checksum type=\"sha256\">$(field 'Header checksum')</header-checksum>
    <location href=\"$file\"/>
    <timestamp>$epoch</timestamp>
    <size>$(size /tmp/chunked)</size>
    <open-size>$(size /tmp/plain)</open-size>
    <header-size>$(field 'Header size')</header-size>
  </data>" >> /tmp/entries
    mv /tmp/chunked "$file"
done
sed --in-place '/<\/repomd>/d' repodata/repomd.xml
cat /tmp/entries >> repodata/repomd.xml
echo '</repomd>' >> repodata/repomd.xml
