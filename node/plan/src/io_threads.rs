//! Which I/O thread serves which disk.

use std::collections::BTreeMap;

use catamaran_spec::{Bus, IoThreads, MachineSpec};

use crate::draft::Draft;
use crate::xml::Element;

/// I/O threads and who has which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Threads {
    count: u32,
    /// Threads by disk name, numbered from 1; more than one = queues spread over them.
    by_disk: BTreeMap<String, Vec<u32>>,
    common: Option<u32>,
}

impl Threads {
    /// `<iothreads>`, when there are any.
    pub(crate) fn element(&self) -> Option<Element> {
        (self.count > 0).then(|| Element::with_text("iothreads", self.count))
    }

    /// The thread of whatever has none of its own.
    pub(crate) fn common(&self) -> Option<u32> {
        self.common
    }

    /// Puts the threads of a disk on its `<driver>`.
    pub(crate) fn put_on(&self, driver: Element, disk: &str) -> Element {
        match self.by_disk.get(disk).map(Vec::as_slice) {
            None | Some([]) => driver,
            Some([one]) => driver.attr("iothread", one),
            Some(several) => driver.child(
                Element::new("iothreads").children(
                    several
                        .iter()
                        .map(|id| Element::new("iothread").attr("id", id)),
                ),
            ),
        }
    }
}

/// Spreads disks over threads: dedicated ones first, then what the policy says.
pub(crate) fn assign(draft: &Draft<'_>, present: &[&str]) -> Threads {
    let spec = draft.spec;
    let virtio = spec
        .disks
        .iter()
        .filter(|disk| disk.target.bus() == Bus::Virtio && present.contains(&disk.name.as_str()));
    let (own, others): (Vec<_>, Vec<_>) = virtio.partition(|disk| disk.dedicated_io_thread);
    let own: Vec<&str> = own.iter().map(|disk| disk.name.as_str()).collect();
    let others: Vec<&str> = others.iter().map(|disk| disk.name.as_str()).collect();
    let mut threads = Threads::default();
    if let IoThreads::SupplementalPool(size) = spec.io_threads {
        threads.count = size;
        threads.common = Some(1);
        // One disk over several threads came with libvirt 10.0 and QEMU 9.0.
        let spread = draft.facts.libvirt_at_least(10, 0) && draft.facts.qemu_version >= (9, 0, 0);
        for (index, disk) in (0u32..).zip(own.iter().chain(&others)) {
            let ids = if spread {
                (1..=size).collect()
            } else {
                vec![index % size.max(1) + 1]
            };
            threads.by_disk.insert((*disk).to_owned(), ids);
        }
        return threads;
    }
    for disk in own {
        threads.count += 1;
        threads.by_disk.insert(disk.to_owned(), vec![threads.count]);
    }
    let pool = pool_size(spec, threads.count, others.len());
    if pool > 0 {
        threads.common = Some(threads.count + 1);
    }
    for (index, disk) in (0u32..).zip(others) {
        if pool > 0 {
            threads
                .by_disk
                .insert(disk.to_owned(), vec![threads.count + index % pool + 1]);
        }
    }
    threads.count += pool;
    threads
}

fn pool_size(spec: &MachineSpec, dedicated: u32, others: usize) -> u32 {
    let others = u32::try_from(others).unwrap_or(u32::MAX);
    match spec.io_threads {
        IoThreads::None | IoThreads::SupplementalPool(_) => 0,
        IoThreads::Shared => 1,
        // As the peer: never more than two for each vCPU, and never none.
        IoThreads::Auto => others.clamp(1, (2 * spec.cpu.count()).saturating_sub(dedicated).max(1)),
    }
}
