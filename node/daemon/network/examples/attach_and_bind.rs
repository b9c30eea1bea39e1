//! What the daemon does for a VM's network, as a process that the tests can kill: `attach_and_bind FOLDER bridge|masquerade`.

use std::error::Error;
use std::path::PathBuf;

use catamaran_network::{
    BindRequest, Binding, HostNetwork, HostPort, Key, NetworkConfig, Owner, PortTarget, Protocol,
    bind,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("no folder")?);
    let binding = match args.next().as_deref() {
        Some("bridge") => Binding::Bridge,
        _ => Binding::masquerade(Vec::new()),
    };
    let config = NetworkConfig {
        dns_upstreams: Vec::new(),
        ..NetworkConfig::new(&folder)
    };
    let network = HostNetwork::ensure(&config).await?;
    let key = Key::new("default", "a")?;
    let attachment = network.attach(&key, None).await?;
    let from = HostPort {
        ip: None,
        port: 8080,
        protocol: Protocol::Tcp,
    };
    let addresses: Vec<_> = attachment.addresses.iter().map(|net| net.addr()).collect();
    let to = PortTarget::of(&addresses, 80);
    network.expose(&Owner::machine(key), from, to).await?;
    bind(&BindRequest {
        netns: attachment.netns,
        interface: attachment.interface,
        tap: "tap0".to_owned(),
        binding,
        owner_uid: 107,
        mtu: None,
        guest_mac: None,
        multi_queue: false,
        hostname: None,
        domain_search: config.domain_search("default"),
        dns: config.gateways(),
        router: attachment.gateway_link_local,
        records: folder.join("vm"),
    })
    .await?;
    Ok(())
}
