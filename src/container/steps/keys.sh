# shellcheck shell=sh
# The keys of repositories that the builder image's rpm can import. Part of solve.sh and renew.sh.
# Enters: keys, builder-keys, repository-keys. Leaves: out/refused-keys.

# Adds keys that are files of the image itself.
add_builder_keys() {
    while read -r name path; do
        cp "$path" "keys/$name"
    done < builder-keys
}

# Removes keys that rpm cannot import from the files: dnf would not import the other keys of such a file. Exits with 90 if a
# repository has no key left.
leave_out_unusable_keys() {
    : > out/refused-keys
    for key in keys/*; do
        mkdir keydb
        if ! rpmkeys --dbpath "$PWD/keydb" --import "$key" > words 2>&1; then
            cat words >&2
            echo "${key#keys/} $(tr -s '\n ' ' ' < words)" >> out/refused-keys
            rpm --dbpath "$PWD/keydb" -q gpg-pubkey --qf '%{DESCRIPTION}\n' > usable 2> /dev/null || : > usable
            mv usable "$key"
        fi
        rm -r keydb
    done
    while read -r repository names; do
        usable=
        for name in $names; do
            [ ! -s "keys/$name" ] || usable=1
        done
        if [ -z "$usable" ]; then
            echo "no usable key of $repository" >&2
            exit 90 # an answer: see failure.rs
        fi
    done < repository-keys
}
