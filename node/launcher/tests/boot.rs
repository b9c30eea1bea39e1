//! A real guest, end to end: stage, init, launcher, libvirt, QEMU.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::{Duration, Instant};

use catamaran_plan::{Format, Prepare, SeedFile, SeedSource};
use catamaran_sandbox::records;
use catamaran_wire::{EndReason, PauseReason, Statistics, Stream, Verb, VmState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[path = "boot/rig.rs"]
mod rig;
use rig::{BOOT, Rig, kill, plan, reason_to_skip};

/// What the minimal guest says when it is up.
const READY: &str = "catamaran-guest ready";
const SOON: Duration = Duration::from_secs(30);
/// Longest that a test takes.
const DEADLINE: Duration = Duration::from_secs(600);

/// Runs a test, or says why not.
fn with_rig(test: impl AsyncFnOnce(&mut Rig)) {
    if let Some(reason) = reason_to_skip() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut rig = Rig::new();
    rig.start_sandbox();
    runtime
        .block_on(async { tokio::time::timeout(DEADLINE, test(&mut rig)).await })
        .unwrap();
}

/// Reads until the bytes are as they should be.
async fn read_until(
    stream: &mut (impl AsyncReadExt + Unpin),
    bytes: &mut Vec<u8>,
    done: impl Fn(&[u8]) -> bool,
) {
    while !done(bytes) {
        let count = stream.read_buf(bytes).await.unwrap();
        assert_ne!(
            count,
            0,
            "it ended after {}",
            String::from_utf8_lossy(bytes)
        );
    }
}

fn running(state: &VmState) -> bool {
    *state == VmState::Running
}

fn ended(state: &VmState) -> bool {
    matches!(state, VmState::Ended { .. })
}

const SCREEN: &str = "<graphics type='vnc' sharePolicy='force-shared'><listen type='socket' socket='/vm/vnc.sock'/></graphics>
    <video><model type='virtio'/></video>";
const NO_SCREEN: &str = "<video><model type='none'/></video>";

#[test]
fn a_guest_boots_survives_its_launcher_and_powers_off_when_asked() {
    with_rig(async |rig| {
        let disk = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/vm/overlays/root'/>
             <target dev='vda' bus='virtio'/><alias name='ua-root'/></disk>
             <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/vm/seed/seed'/>
             <target dev='sda' bus='sata'/><readonly/><alias name='ua-seed'/></disk>";
        let prepare = vec![
            Prepare::Overlay {
                path: "/vm/overlays/root".into(),
                base: "/disks/root".into(),
                base_format: Format::Raw,
                size: 64 << 20,
                limit: None,
            },
            Prepare::Seed {
                path: "/vm/seed/seed".into(),
                label: "cidata".into(),
                files: vec![SeedFile {
                    path: "meta-data".into(),
                    content: SeedSource::Inline("{}".into()),
                }],
            },
        ];
        let plan = plan(&format!("{disk}{SCREEN}"), "", prepare, "");
        let mut client = rig.client().await;
        let asked = Instant::now();
        client
            .get(Verb::Start {
                plan: Box::new(plan.clone()),
            })
            .await;
        // A second start is ignored, and another machine's is not.
        client
            .get(Verb::Start {
                plan: Box::new(plan.clone()),
            })
            .await;
        let mut other = plan.clone();
        other.generation.vmi_uid = "00000000-0000-0000-0000-000000000001".parse().unwrap();
        assert!(
            client
                .ask(Verb::Start {
                    plan: Box::new(other)
                })
                .await
                .error
                .is_some()
        );
        let report = rig.client().await.wait_for(SOON, running).await;
        eprintln!("start to Running: {:?}", asked.elapsed());
        let qemu = report.qemu_pid.unwrap();
        rig.wait_for_output(READY, BOOT).await;
        eprintln!("start to ready: {:?}", asked.elapsed());

        let picture = client.get(Verb::Screenshot).await;
        assert!(picture.as_str().unwrap().starts_with("iVBOR"), "not a PNG");
        let statistics: Statistics =
            serde_json::from_value(client.get(Verb::Statistics).await).unwrap();
        assert_eq!(statistics.disks[0].name, "root");
        assert!(statistics.cpu_seconds > 0.0 && statistics.memory.actual.is_some());
        // What other emulators of the host can do was not looked for: that takes a second and memory that is not given back.
        let known = rig.spec.run.join("libvirt/cache/qemu/capabilities");
        assert_eq!(std::fs::read_dir(known).unwrap().count(), 1);
        let log = client.get(Verb::Dmesg { tail_bytes: None }).await;
        assert!(log.as_str().unwrap().contains("Linux version"), "{log}");
        let unknown = client
            .ask(Verb::Agent {
                command: serde_json::json!({"execute":"guest-ping"}),
                timeout_seconds: 1,
            })
            .await;
        assert!(unknown.error.is_some());

        client.get(Verb::Pause).await;
        let user = VmState::Paused {
            reason: PauseReason::User,
        };
        rig.client()
            .await
            .wait_for(SOON, |state| *state == user)
            .await;
        client.get(Verb::Unpause).await;
        rig.client().await.wait_for(SOON, running).await;

        let (mut screen, early) = rig
            .client()
            .await
            .attach(Stream::Vnc { read_only: false })
            .await;
        let mut greeting = early;
        read_until(&mut screen, &mut greeting, |bytes| bytes.len() >= 12).await;
        assert!(greeting.starts_with(b"RFB 003."));

        // The launcher dies; QEMU and the guest do not notice.
        print_memory(rig);
        // init executes itself anew under the running guest, and still does its work.
        rustix::process::pidfd_send_signal(&rig.sandbox().pidfd, rustix::process::Signal::HUP)
            .unwrap();
        for launcher in rig.processes("catamaran-launc") {
            kill(launcher);
        }
        let killed = Instant::now();
        let adopted = rig.client().await.wait_for(SOON, running).await;
        eprintln!(
            "kill -9 of the launcher to its successor's report: {:?}",
            killed.elapsed()
        );
        assert_eq!(adopted.qemu_pid, Some(qemu));
        assert_eq!(rig.processes("qemu-system").len(), 1);

        // The console works again, with what was said before.
        let stream = Stream::Serial {
            replay: true,
            read_only: false,
        };
        let (mut console, mut said) = rig.client().await.attach(stream).await;
        console.write_all(b"\n").await.unwrap();
        read_until(&mut console, &mut said, |bytes| {
            String::from_utf8_lossy(bytes).contains(READY)
        })
        .await;

        let mut client = rig.client().await;
        client
            .get(Verb::Stop {
                grace_period_seconds: Some(60),
            })
            .await;
        let report = rig
            .client()
            .await
            .wait_for(Duration::from_secs(70), ended)
            .await;
        assert_eq!(
            report.state,
            VmState::Ended {
                reason: EndReason::Shutdown
            },
            "{:?}",
            report.message
        );
        client.get(Verb::Finish).await;
        rig.wait_for_end(SOON);
    });
}

#[test]
fn destroy_is_quick_and_a_killed_qemu_has_crashed() {
    with_rig(async |rig| {
        let mut client = rig.client().await;
        client
            .get(Verb::Start {
                plan: Box::new(plan(NO_SCREEN, "", Vec::new(), "")),
            })
            .await;
        let report = rig.client().await.wait_for(SOON, running).await;
        for qemu in rig.processes("qemu-system") {
            kill(qemu);
        }
        let end = rig.client().await.wait_for(SOON, ended).await;
        assert_eq!(
            end.state,
            VmState::Ended {
                reason: EndReason::Crashed
            }
        );
        assert!(end.message.unwrap().contains("signal 9"));
        let exit = records::find_exit(&rig.spec.run.join("exits.jsonl"), report.qemu_pid.unwrap())
            .unwrap();
        assert_eq!(
            (exit.signal, exit.name.starts_with("qemu-system")),
            (Some(9), true)
        );
        client.get(Verb::Finish).await;
        rig.wait_for_end(SOON);
    });
    with_rig(async |rig| {
        let mut client = rig.client().await;
        client
            .get(Verb::Start {
                plan: Box::new(plan(NO_SCREEN, "", Vec::new(), "")),
            })
            .await;
        rig.client().await.wait_for(SOON, running).await;
        let asked = Instant::now();
        client.get(Verb::Destroy).await;
        let end = rig.client().await.wait_for(SOON, ended).await;
        eprintln!("destroy: {:?}", asked.elapsed());
        assert_eq!(
            end.state,
            VmState::Ended {
                reason: EndReason::Destroyed
            }
        );
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "init does not reap at once"
        );
    });
}

#[test]
fn a_panicked_guest_leaves_its_last_words() {
    with_rig(async |rig| {
        let seed = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/vm/seed/seed'/>
             <target dev='vda' bus='virtio'/><readonly/></disk>";
        let file = |path: &str, text: &str| SeedFile {
            path: path.into(),
            content: SeedSource::Inline(text.into()),
        };
        let prepare = vec![Prepare::Seed {
            path: "/vm/seed/seed".into(),
            label: "cidata".into(),
            files: vec![
                file("meta-data", "instance-id: panic\n"),
                file(
                    "user-data",
                    "#cloud-config\nruncmd:\n  - echo c > /proc/sysrq-trigger\n",
                ),
            ],
        }];
        let plan = plan(&format!("{seed}{NO_SCREEN}"), "", prepare, "");
        rig.client()
            .await
            .get(Verb::Start {
                plan: Box::new(plan),
            })
            .await;
        let end = rig.client().await.wait_for(BOOT, ended).await;
        assert_eq!(
            end.state,
            VmState::Ended {
                reason: EndReason::Panicked
            }
        );
        let log = std::fs::read_to_string(rig.spec.state.join("crash.log")).unwrap();
        assert!(log.contains("Kernel panic"), "{log}");
    });
}

#[test]
fn sigterm_to_init_powers_the_guest_off_and_ends_everything() {
    with_rig(async |rig| {
        let mut client = rig.client().await;
        client
            .get(Verb::Start {
                plan: Box::new(plan(NO_SCREEN, "", Vec::new(), "")),
            })
            .await;
        rig.wait_for_output(READY, BOOT).await;
        rustix::process::pidfd_send_signal(&rig.sandbox().pidfd, rustix::process::Signal::TERM)
            .unwrap();
        rig.wait_for_end(Duration::from_secs(70));
        let end: serde_json::Value = records::load(&rig.spec.run.join("end.json"))
            .unwrap()
            .unwrap();
        assert_eq!(end["reason"], "shutdown");
    });
}

#[test]
fn a_wrong_plan_ends_with_a_reason() {
    with_rig(async |rig| {
        let mut plan = plan("<nonsense/>", "", Vec::new(), "");
        plan.generation.counter = 2;
        rig.client()
            .await
            .get(Verb::Start {
                plan: Box::new(plan),
            })
            .await;
        let end = rig.client().await.wait_for(SOON, ended).await;
        assert_eq!(
            end.state,
            VmState::Ended {
                reason: EndReason::FailedToStart
            }
        );
        assert!(
            end.message.unwrap().contains("XML"),
            "the reason names the XML"
        );
    });
}

/// PSS of what each machine costs besides QEMU.
fn print_memory(rig: &Rig) {
    for name in ["catamaran-init", "catamaran-launc", "qemu-system"] {
        for pid in rig.processes(name) {
            let rollup =
                std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let field = |key: &str| {
                rollup
                    .lines()
                    .find(|line| line.starts_with(key))
                    .unwrap_or_default()
                    .to_owned()
            };
            eprintln!("{name}: {} | {}", field("Pss:"), field("Anonymous:"));
        }
    }
}

#[test]
fn secure_boot_and_a_tpm_work_without_privileges() {
    with_rig(async |rig| {
        let firmware = "<loader readonly='yes' secure='yes' type='pflash' format='raw'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>
             <nvram format='raw'>/state/nvram.fd</nvram>|<smm state='on'/>";
        let devices = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/vm/overlays/root'/>
             <target dev='vda' bus='virtio'/><boot order='1'/><alias name='ua-root'/></disk>
             <tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'><source type='dir' path='/state/tpm'/></backend></tpm>";
        let prepare = vec![
            Prepare::Folder {
                path: "/state/tpm".into(),
            },
            Prepare::Nvram {
                path: "/state/nvram.fd".into(),
                template: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd".into(),
            },
            Prepare::Overlay {
                path: "/vm/overlays/root".into(),
                base: "/disks/root".into(),
                base_format: Format::Raw,
                size: 64 << 20,
                limit: None,
            },
        ];
        let plan = plan(&format!("{devices}{NO_SCREEN}"), firmware, prepare, "");
        let asked = Instant::now();
        let mut client = rig.client().await;
        client
            .get(Verb::Start {
                plan: Box::new(plan),
            })
            .await;
        let report = rig
            .client()
            .await
            .wait_for(SOON, |state| running(state) || ended(state))
            .await;
        assert_eq!(report.state, VmState::Running, "{:?}", report.message);
        eprintln!("start with swtpm and OVMF: {:?}", asked.elapsed());
        assert_eq!(rig.processes("swtpm").len(), 1);
        rig.wait_for_output(READY, BOOT).await;
        eprintln!("secure boot to ready: {:?}", asked.elapsed());
        let log = client.get(Verb::Dmesg { tail_bytes: None }).await;
        let log = log.as_str().unwrap();
        assert!(log.to_lowercase().contains("secure boot enabled"), "{log}");
        assert!(
            log.contains("TPMEventLog"),
            "the firmware has not used the TPM: {log}"
        );
        client.get(Verb::Destroy).await;
        rig.client().await.wait_for(SOON, ended).await;
        client.get(Verb::Finish).await;
        rig.wait_for_end(SOON);
        assert!(
            rig.spec.state.join("tpm/tpm2-00.permall").exists(),
            "the TPM's state persists"
        );
    });
}

#[test]
fn saved_memory_goes_on_in_the_same_folder() {
    with_rig(async |rig| {
        let plan = plan(NO_SCREEN, "", Vec::new(), "");
        let mut client = rig.client().await;
        client
            .get(Verb::Start {
                plan: Box::new(plan.clone()),
            })
            .await;
        rig.wait_for_output(READY, BOOT).await;
        client.get(Verb::Save).await;
        let end = rig.client().await.wait_for(SOON, ended).await;
        assert_eq!(
            end.state,
            VmState::Ended {
                reason: EndReason::Saved
            },
            "{:?}",
            end.message
        );
        client.get(Verb::Finish).await;
        rig.wait_for_end(SOON);
        std::fs::remove_dir_all(&rig.spec.run).unwrap();

        rig.start_sandbox();
        let asked = Instant::now();
        let mut client = rig.client().await;
        client
            .get(Verb::Start {
                plan: Box::new(plan),
            })
            .await;
        rig.client().await.wait_for(SOON, running).await;
        eprintln!("restored after {:?}", asked.elapsed());
        // The same kernel still runs: its log says that it booted long ago, and nothing booted anew.
        let log = client.get(Verb::Dmesg { tail_bytes: None }).await;
        assert!(log.as_str().unwrap().contains("Linux version"));
        let said = std::fs::read_to_string(rig.spec.run.join("serial.log")).unwrap();
        assert!(!said.contains(READY), "it has booted anew: {said}");
        assert!(
            !rig.spec.state.join("memory.save").exists(),
            "saved memory is used once"
        );
    });
}
