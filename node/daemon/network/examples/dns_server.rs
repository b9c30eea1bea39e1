//! The DNS server's process by itself: what `catamaran dns-server` does. The tests start it.

fn main() -> Result<(), catamaran_network::Error> {
    catamaran_network::dns::child_main()
}
