//! Objects beside a host that can't be written.

use catamaran_api::metal3::PreprovisioningImage;
use catamaran_baremetal::{Again, State};
use serde_json::json;

use crate::fake::Bench;
use crate::fencing::running;

fn forbidden(bench: &Bench, is: bool) {
    bench.cluster.0.lock().unwrap().others_forbidden = is;
}

async fn pause(bench: &Bench) -> i64 {
    match bench.step().await {
        Again::After(seconds) => seconds,
        Again::Changed => panic!("it is never tried again"),
    }
}

#[tokio::test]
async fn what_can_not_be_written_is_tried_again_with_growing_pauses_and_holds_nothing_up() {
    let bench = running().await;
    let usual = pause(&bench).await;
    let asked = json!({"spec": {"acceptFormats": ["iso"]}});
    let cluster = &bench.cluster;
    cluster.change_other::<PreprovisioningImage>("a", &asked);
    forbidden(&bench, true);
    assert!((10..13).contains(&pause(&bench).await));
    assert!((20..26).contains(&pause(&bench).await));
    // A look for another reason neither counts nor makes the pause longer.
    let begin = cluster.0.lock().unwrap().now;
    let third = pause(&bench).await;
    assert!((40..51).contains(&third), "{third}");
    cluster.0.lock().unwrap().now = begin + 1;
    assert_eq!(pause(&bench).await, third - 1);
    assert_eq!(pause(&bench).await, usual);
    assert_eq!(bench.state(), State::ExternallyProvisioned);

    forbidden(&bench, false);
    assert_eq!(pause(&bench).await, usual);
    let written = cluster.other::<PreprovisioningImage>("a").unwrap();
    assert!(written.status.is_some());
    forbidden(&bench, true);
    let other = json!({"spec": {"acceptFormats": ["initrd"]}});
    cluster.change_other::<PreprovisioningImage>("a", &other);
    assert!((10..13).contains(&pause(&bench).await));
}
