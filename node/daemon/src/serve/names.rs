//! Names of machines and pods, told to the DNS server at each change.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use catamaran_network::dns::{DnsServer, NameRecord, publish};
use tokio_util::sync::CancellationToken;

use crate::serve::daemon::Daemon;
use crate::serve::pods;
use crate::serve::store::Kind;

/// How often the DNS server is looked after.
const LOOK: Duration = Duration::from_secs(5);

/// Keeps the DNS server running and its zone as the store has it, until it is cancelled; no server is started after its end.
pub async fn supervise(daemon: Arc<Daemon>, cancel: CancellationToken) {
    let mut changes = daemon.store.subscribe();
    let mut told = None;
    loop {
        changes.borrow_and_update();
        let records = records(&daemon);
        if told.as_ref() != Some(&records) {
            match publish(daemon.network.config(), records.clone()) {
                Ok(()) => told = Some(records),
                Err(error) => tracing::warn!(
                    error = catamaran_client::chain(&error),
                    "names could not be published"
                ),
            }
        }
        if let Err(error) = DnsServer::spawn(
            daemon.network.config(),
            Path::new("/proc/self/exe"),
            &["dns-server"],
        )
        .await
        {
            tracing::warn!(
                error = catamaran_client::chain(&error),
                "the DNS server does not run"
            );
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn records(daemon: &Daemon) -> Vec<NameRecord> {
    let mut records: Vec<NameRecord> = Vec::new();
    for lease in daemon.network.leases().unwrap_or_default() {
        let addresses = lease.addresses();
        records.push(NameRecord {
            namespace: lease.key.namespace().to_owned(),
            name: lease.key.name().to_owned(),
            addresses,
        });
    }
    for (key, stored) in daemon.store.list(Kind::Pod) {
        let addresses: Vec<IpAddr> = pods::addresses(&stored.object);
        if !addresses.is_empty() {
            records.push(NameRecord {
                namespace: key.namespace,
                name: key.name,
                addresses,
            });
        }
    }
    records
}
