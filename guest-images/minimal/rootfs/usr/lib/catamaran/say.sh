# One way to speak on the consoles; a machine without one of them is no error.
say() {
    for tty in ttyS0 tty1; do
        { echo "catamaran-guest $*" >/dev/$tty; } 2>/dev/null
    done
    :
}
