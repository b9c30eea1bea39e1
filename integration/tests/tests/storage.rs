//! Disks: what stays, what goes with a run, and a host whose disk is full.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{add_disk, machine};
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, Console, SHORT, Setting, run, run_in, wait_for};
use serde_json::{Value, json};

/// Disks of the machine as the guest has them.
const ROOT: &str = "vda";
const CLAIM: &str = "vdb";
const EMPTY: &str = "vdc";
/// Where a word is written: behind the partition table and before the first partition, so that it does not matter to the boot.
const AT: &str = "bs=512 seek=40 count=1 conv=notrunc,fsync";
const FROM: &str = "bs=512 skip=40 count=1";

fn virtio() -> Value {
    json!({"disk": {"bus": "virtio"}})
}

/// A machine with a containerDisk, a claim's disk and an emptyDisk, and the claim.
fn keeper(name: &str, empty: &str) -> (Value, Value) {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cargo"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    });
    let mut vm = machine(name);
    vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
    let source = json!({"persistentVolumeClaim": {"claimName": "cargo"}});
    add_disk(&mut vm, "cargo", &virtio(), &source);
    add_disk(
        &mut vm,
        "scratch",
        &virtio(),
        &json!({"emptyDisk": {"capacity": empty}}),
    );
    (vm, claim)
}

fn write(guest: &mut Console, disk: &str, word: &str) -> Result<()> {
    guest.shell(&format!("printf {word} | dd of=/dev/{disk} {AT} 2>&1"))?;
    Ok(())
}

/// The word that stands on a disk, read from the disk itself; empty when there is none.
fn read(guest: &mut Console, disk: &str) -> Result<String> {
    guest.shell(&format!(
        "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/{disk} {FROM} 2>/dev/null | tr -d '\\000'"
    ))
}

fn words(guest: &mut Console) -> Result<[String; 3]> {
    Ok([read(guest, ROOT)?, read(guest, CLAIM)?, read(guest, EMPTY)?])
}

/// Boots of a machine in this run, by what it said on its serial line.
fn boots(bench: &Bench, name: &str) -> usize {
    bench
        .serial(name)
        .matches("catamaran-guest ready: ")
        .count()
}

#[test]
fn a_claim_grows_at_the_next_start_and_never_shrinks() -> Result<()> {
    run(|bench| {
        let (mut vm, mut claim) = keeper("grower", "16Mi");
        vm["spec"]["runStrategy"] = "Manual".into();
        let disk = bench.state().join("volumes/default/cargo/disk.img");
        for (size, bytes) in [("16Mi", 16 << 20), ("24Mi", 24 << 20)] {
            claim["spec"]["resources"]["requests"]["storage"] = size.into();
            bench.apply(&[&claim, &vm])?;
            bench.catamaran(["start", "grower"])?;
            bench.wait_field("vmi/grower", "/status/phase", "Running", BOOT)?;
            let has = fs::metadata(&disk)?.len();
            ensure!(has == bytes, "{size}: {has}");
            bench.catamaran(["stop", "grower"])?;
            bench.wait_gone("vmi/grower", SHORT)?;
        }
        claim["spec"]["resources"]["requests"]["storage"] = "8Mi".into();
        let path = bench.manifest(&[&claim])?;
        let words = ["apply".as_ref(), "-f".as_ref(), path.as_os_str()];
        let said = bench.refused(words)?;
        ensure!(said.contains("spec.resources.requests.storage"), "{said}");
        Ok(())
    })
}

#[test]
fn a_claim_keeps_its_data_and_what_belongs_to_a_run_goes_with_it() -> Result<()> {
    run(|bench| {
        let (vm, claim) = keeper("keeper", "16Mi");
        bench.apply(&[&claim, &vm])?;
        let mut guest = bench.booted("keeper")?;
        ensure!(
            guest.shell(&format!(
                "cat /sys/block/{CLAIM}/size /sys/block/{EMPTY}/size"
            ))? == "32768\n32768",
            "the disks are not of 16 MiB"
        );
        let nothing = words(&mut guest)?;
        ensure!(nothing[1..] == ["", ""], "{nothing:?}");
        for (disk, word) in [(ROOT, "overlay"), (CLAIM, "claim"), (EMPTY, "empty")] {
            write(&mut guest, disk, word)?;
        }

        // A reset is no end of a run.
        bench.catamaran(["reset", "keeper"])?;
        wait_for("the guest boots again", BOOT, || {
            let now = boots(bench, "keeper");
            Ok(Seen::when(now == 2, format!("{now} boots")))
        })?;
        let found = words(&mut guest)?;
        ensure!(found == ["overlay", "claim", "empty"], "{found:?}");

        // A restart is one: only the claim is left.
        let qemu = bench.process("keeper", "qemu-system-x86_64")?;
        drop(guest);
        bench.catamaran(["restart", "keeper"])?;
        wait_for("a new QEMU runs", SHORT, || {
            let now = bench.processes("keeper", "qemu-system-x86_64");
            Ok(Seen::when(
                now.len() == 1 && now[0] != qemu,
                format!("{now:?}"),
            ))
        })?;
        let mut guest = bench.booted("keeper")?;
        let found = words(&mut guest)?;
        ensure!(found == [nothing[0].as_str(), "claim", ""], "{found:?}");

        // The claim's disk outlives its machine, is not deleted under one, and goes only when that is asked for.
        let said = bench.refused(["delete", "pvc/cargo", "--volumes"])?;
        ensure!(
            said.contains("in use by") && said.contains("keeper"),
            "{said}"
        );
        drop(guest);
        bench.catamaran(["delete", "keeper"])?;
        let disk = bench.state().join("volumes/default/cargo/disk.img");
        let bytes = fs::read(&disk)?;
        ensure!(bytes[40 * 512..].starts_with(b"claim"), "the data is gone");
        bench.catamaran(["delete", "pvc/cargo", "--volumes"])?;
        ensure!(!disk.exists(), "{} is still there", disk.display());
        Ok(())
    })
}

/// Bytes that are free on the file system of a folder.
fn free(folder: &Path) -> Result<u64> {
    let fs = rustix::fs::statvfs(folder)?;
    Ok(fs.f_bavail * fs.f_frsize)
}

/// Takes the space of a file system until only so many bytes are free; gives the file that does.
fn fill(folder: &Path, but: u64) -> Result<PathBuf> {
    let path = folder.join("filler");
    let bytes = free(folder)?.saturating_sub(but);
    let flags = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(File::create(&path)?, flags, 0, bytes)?;
    Ok(path)
}

/// Files of the image cache and their sizes.
fn cached(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(cached(&entry.path())?);
        } else {
            found.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(found)
}

const MIB: u64 = 1 << 20;

/// Waits until the guest is paused for lack of space, with its reason in the conditions.
fn wait_paused(bench: &Bench, name: &str) -> Result<()> {
    let paused = wait_for("the machine is paused for lack of space", SHORT, || {
        let vmi = bench.get(&format!("vmi/{name}"))?;
        let all = vmi["status"]["conditions"].as_array().cloned();
        let paused = all
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition["type"] == "Paused" && condition["status"] == "True");
        Ok(paused.map_or_else(|| Seen::NotYet(vmi["status"].to_string()), Seen::Yes))
    })?;
    ensure!(paused["reason"] == "PausedIOError", "{paused}");
    let words = paused["message"].as_str().unwrap_or_default();
    ensure!(words.contains("full"), "{paused}");
    bench
        .wait_field(
            &format!("vm/{name}"),
            "/status/printableStatus",
            "Paused",
            SHORT,
        )
        .map(drop)
}

#[test]
fn a_full_disk_of_the_host_leaves_no_half_image_and_only_pauses_a_guest() -> Result<()> {
    let setting = Setting {
        disk: Some(384 * MIB),
        ..Setting::default()
    };
    run_in(setting, |bench| {
        let images = bench.state().join("images");
        let before = cached(&images)?;
        let filler = fill(bench.state(), 32 * MIB)?;
        let (vm, claim) = keeper("full", "96Mi");
        bench.apply(&[&claim, &vm])?;
        let said = wait_for("the machine says that the disk is full", SHORT, || {
            let said = bench.catamaran(["describe", "full"])?;
            Ok(if said.contains("no space left in") {
                Seen::Yes(said)
            } else {
                Seen::NotYet(said)
            })
        })?;
        ensure!(
            said.contains("catamaran.local/minimal:dev") && said.contains("must stay free"),
            "{said}"
        );
        let left: Vec<_> = cached(&images)?
            .into_iter()
            .filter(|(_, size)| *size > 64 << 10)
            .filter(|file| !before.contains(file))
            .collect();
        ensure!(left.is_empty(), "half an image is left: {left:?}");

        // When there is space, nobody has to do anything.
        fs::remove_file(&filler)?;
        let mut guest = bench.booted("full")?;
        let qemu = bench.process("full", "qemu-system-x86_64")?;

        // The guest writes more than there is, to the emptyDisk, whose file grows.
        let filler = fill(bench.state(), 8 * MIB)?;
        guest.type_in(
            "dd if=/dev/urandom bs=1M count=24 | tee /dev/vdc | md5sum >/run/sum; sync; echo 3 >/proc/sys/vm/drop_caches; \
             dd if=/dev/vdc bs=1M count=24 | md5sum | cmp - /run/sum && echo all is 'he're\n",
        )?;
        wait_paused(bench, "full")?;
        ensure!(!guest.text().contains("all is here"), "the guest went on");

        fs::remove_file(&filler)?;
        guest.wait_for("all is here", BOOT)?;
        bench.wait_field("vm/full", "/status/printableStatus", "Running", SHORT)?;
        ensure!(
            bench.process("full", "qemu-system-x86_64")? == qemu,
            "QEMU was started anew"
        );
        Ok(())
    })
}

#[test]
fn a_guest_that_fills_its_overlay_is_paused_and_takes_no_more_of_the_host() -> Result<()> {
    const LIMIT: u64 = 8 * MIB;
    run_in(Setting::words(&["--overlay-limit", "8Mi"]), |bench| {
        let mut vm = machine("greedy");
        vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
        bench.apply(&[&vm])?;
        let mut guest = bench.booted("greedy")?;
        // Less than the limit is nobody's business.
        guest.shell("dd if=/dev/urandom of=/dev/vda bs=1M seek=8 count=4 conv=fsync 2>&1")?;
        guest.type_in(
            "dd if=/dev/urandom of=/dev/vda bs=1M seek=12 count=24 conv=fsync; echo all is 'writ'ten\n",
        )?;
        wait_paused(bench, "greedy")?;
        ensure!(
            !guest.text().contains("all is written"),
            "the guest went on"
        );
        let overlay = cached(&bench.state().join("vms/default_greedy"))?
            .into_iter()
            .find(|(path, _)| path.ends_with("overlays/root.qcow2"))
            .context("no overlay")?;
        ensure!(overlay.1 <= LIMIT, "{overlay:?}");

        // A new run has a new overlay.
        drop(guest);
        bench.catamaran(["restart", "greedy"])?;
        wait_for("the guest boots again", BOOT, || {
            let status = bench.get("vm/greedy")?["status"]["printableStatus"].clone();
            let boots = boots(bench, "greedy");
            Ok(Seen::when(
                status == "Running" && boots == 1,
                format!("{status}, {boots} boots"),
            ))
        })
    })
}

/// Makes all cached images look as if nobody had asked for them for long. The daemon must not run.
fn age(index: &Path) -> Result<()> {
    let mut images: Value = serde_json::from_slice(&fs::read(index)?)?;
    let files = images["files"].as_object_mut().context("no files")?;
    ensure!(!files.is_empty(), "no image in {}", index.display());
    for file in files.values_mut() {
        file["last_used"] = 0.into();
    }
    Ok(fs::write(index, images.to_string())?)
}

#[test]
fn an_image_is_collected_when_no_machine_has_used_it_for_long() -> Result<()> {
    run(|bench| {
        let mut vm = machine("user");
        vm["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
        bench.apply(&[&vm])?;
        bench.wait_field("vm/user", "/status/printableStatus", "Running", SHORT)?;
        let images = bench.state().join("images");
        let disks = images.join("disks");
        let before = cached(&disks)?;
        ensure!(!before.is_empty(), "no image in {}", disks.display());

        // One that a machine uses is kept, also by a daemon that did not start the machine.
        bench.kill_daemon()?;
        age(&images.join("index.json"))?;
        bench.start_daemon()?;
        bench.wait_field("vm/user", "/status/printableStatus", "Running", SHORT)?;
        wait_for("the daemon has collected", SHORT, || {
            let log = bench.daemon_log();
            let times = log.matches("unused images removed").count();
            Ok(Seen::when(times == 2, format!("{times} times")))
        })?;
        ensure!(cached(&disks)? == before, "the image of a machine is gone");

        bench.catamaran(["delete", "user"])?;
        ensure!(cached(&disks)? == before, "the image is gone at once");
        bench.kill_daemon()?;
        age(&images.join("index.json"))?;
        bench.start_daemon()?;
        wait_for("the image is gone", SHORT, || {
            let left = cached(&disks)?;
            Ok(Seen::when(left.is_empty(), format!("{left:?}")))
        })
    })
}
