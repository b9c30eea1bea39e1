//! What a guest has used, read by one libvirt call.

use std::collections::BTreeMap;
use std::ffi::CStr;

use virt::domain::Domain as VirtDomain;
use virt_sys as sys;

use crate::Error;

/// What a guest has used since QEMU's start (counters) or uses now (gauges).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// By virtual processor, in their order.
    pub vcpus: Vec<VcpuStatistics>,
    /// Memory as the balloon knows it.
    pub memory: MemoryStatistics,
    /// By disk.
    pub disks: Vec<BlockStatistics>,
    /// By network interface.
    pub interfaces: Vec<NetStatistics>,
}

/// One virtual processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VcpuStatistics {
    /// Time it ran, ns.
    pub time_ns: u64,
    /// Time it waited for a host processor, ns.
    pub delay_ns: u64,
    /// Time it waited otherwise, ns.
    pub wait_ns: u64,
    /// libvirt's state: 0 offline, 1 running, 2 blocked.
    pub state: u64,
}

/// Memory in KiB. Zero where the guest's balloon driver does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStatistics {
    /// What the guest has now.
    pub current_kib: u64,
    /// What it may have at most.
    pub maximum_kib: u64,
    /// As the guest sees it: all.
    pub available_kib: u64,
    /// As the guest sees it: free.
    pub unused_kib: u64,
    /// As the guest sees it: usable without swapping.
    pub usable_kib: u64,
    /// Page cache that could be dropped.
    pub disk_caches_kib: u64,
    /// What QEMU's process holds on the host.
    pub rss_kib: u64,
    /// Read from swap in the guest.
    pub swap_in_kib: u64,
    /// Written to swap in the guest.
    pub swap_out_kib: u64,
    /// Page faults served from memory.
    pub minor_faults: u64,
    /// Page faults served from disk.
    pub major_faults: u64,
}

/// One disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockStatistics {
    /// Target in the guest, e.g. `vda`.
    pub target: String,
    /// The file; may be empty.
    pub path: String,
    /// Requests.
    pub read_requests: u64,
    /// Bytes.
    pub read_bytes: u64,
    /// Nanoseconds.
    pub read_time_ns: u64,
    /// Requests.
    pub write_requests: u64,
    /// Bytes.
    pub write_bytes: u64,
    /// Nanoseconds.
    pub write_time_ns: u64,
    /// Flushes.
    pub flush_requests: u64,
    /// Nanoseconds.
    pub flush_time_ns: u64,
    /// Size the guest sees, bytes.
    pub capacity_bytes: u64,
    /// Highest offset written in the file, bytes.
    pub allocation_bytes: u64,
    /// Size of the file on disk, bytes.
    pub physical_bytes: u64,
}

/// One network interface, seen from the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetStatistics {
    /// The tap's name on the host.
    pub name: String,
    /// Received by the guest.
    pub receive_bytes: u64,
    /// Received by the guest.
    pub receive_packets: u64,
    /// Receive errors.
    pub receive_errors: u64,
    /// Dropped on receive.
    pub receive_drops: u64,
    /// Sent by the guest.
    pub transmit_bytes: u64,
    /// Sent by the guest.
    pub transmit_packets: u64,
    /// Send errors.
    pub transmit_errors: u64,
    /// Dropped on send.
    pub transmit_drops: u64,
}

/// Most vcpus, disks or interfaces that are read.
const MAX_DEVICES: u64 = 1024;

impl Statistics {
    pub(crate) fn read(domain: &VirtDomain) -> Result<Self, Error> {
        let what = "read the statistics";
        // Without the time of processors as a whole: libvirt asks for what the host can do first, and for that starts a QEMU of each architecture
        // and keeps some 8 MB.
        let kinds = sys::VIR_DOMAIN_STATS_STATE
            | sys::VIR_DOMAIN_STATS_BALLOON
            | sys::VIR_DOMAIN_STATS_VCPU
            | sys::VIR_DOMAIN_STATS_INTERFACE
            | sys::VIR_DOMAIN_STATS_BLOCK;
        let mut list = [domain.as_ptr(), std::ptr::null_mut()];
        let mut records: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
        // SAFETY: the list is null-terminated and holds valid handles; `records` receives a new list. The flag makes
        // libvirt leave out what it cannot get without waiting for another job.
        let count = unsafe {
            sys::virDomainListGetStats(
                list.as_mut_ptr(),
                kinds,
                &raw mut records,
                sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
            )
        };
        if count < 0 {
            return Err(Error::last(what));
        }
        // SAFETY: libvirt returned `count` records; each holds `nparams` parameters. They are copied before the free.
        let fields = unsafe {
            let fields = if count > 0 {
                let record = &**records;
                Fields::copy(record.params, record.nparams)
            } else {
                Fields::default()
            };
            sys::virDomainStatsRecordListFree(records);
            fields
        };
        Ok(Self::from_fields(&fields))
    }

    fn from_fields(f: &Fields) -> Self {
        let disks = (0..f.count("block.count")).map(|i| {
            let n = |name: &str| f.number(&format!("block.{i}.{name}"));
            BlockStatistics {
                target: f.text(&format!("block.{i}.name")),
                path: f.text(&format!("block.{i}.path")),
                read_requests: n("rd.reqs"),
                read_bytes: n("rd.bytes"),
                read_time_ns: n("rd.times"),
                write_requests: n("wr.reqs"),
                write_bytes: n("wr.bytes"),
                write_time_ns: n("wr.times"),
                flush_requests: n("fl.reqs"),
                flush_time_ns: n("fl.times"),
                capacity_bytes: n("capacity"),
                allocation_bytes: n("allocation"),
                physical_bytes: n("physical"),
            }
        });
        let interfaces = (0..f.count("net.count")).map(|i| {
            let n = |name: &str| f.number(&format!("net.{i}.{name}"));
            NetStatistics {
                name: f.text(&format!("net.{i}.name")),
                receive_bytes: n("rx.bytes"),
                receive_packets: n("rx.pkts"),
                receive_errors: n("rx.errs"),
                receive_drops: n("rx.drop"),
                transmit_bytes: n("tx.bytes"),
                transmit_packets: n("tx.pkts"),
                transmit_errors: n("tx.errs"),
                transmit_drops: n("tx.drop"),
            }
        });
        let vcpus = (0..f.count("vcpu.current")).map(|i| {
            let n = |name: &str| f.number(&format!("vcpu.{i}.{name}"));
            VcpuStatistics {
                time_ns: n("time"),
                delay_ns: n("delay"),
                wait_ns: n("wait"),
                state: n("state"),
            }
        });
        Self {
            vcpus: vcpus.collect(),
            memory: MemoryStatistics {
                current_kib: f.number("balloon.current"),
                maximum_kib: f.number("balloon.maximum"),
                available_kib: f.number("balloon.available"),
                unused_kib: f.number("balloon.unused"),
                usable_kib: f.number("balloon.usable"),
                disk_caches_kib: f.number("balloon.disk_caches"),
                rss_kib: f.number("balloon.rss"),
                swap_in_kib: f.number("balloon.swap_in"),
                swap_out_kib: f.number("balloon.swap_out"),
                minor_faults: f.number("balloon.minor_fault"),
                major_faults: f.number("balloon.major_fault"),
            },
            disks: disks.collect(),
            interfaces: interfaces.collect(),
        }
    }
}

/// A copy of libvirt's typed parameters: whole numbers and texts (others are not used here).
#[derive(Default)]
struct Fields {
    numbers: BTreeMap<String, u64>,
    texts: BTreeMap<String, String>,
}

impl Fields {
    /// # Safety
    /// `list` must point to `count` parameters (or be anything when `count` is 0).
    unsafe fn copy(list: sys::virTypedParameterPtr, count: i32) -> Self {
        let mut fields = Self::default();
        let Ok(count) = usize::try_from(count) else {
            return fields;
        };
        if count == 0 || list.is_null() {
            return fields;
        }
        // SAFETY: per the contract above.
        for parameter in unsafe { std::slice::from_raw_parts(list, count) } {
            // SAFETY: the name is a NUL-terminated array inside the parameter.
            let name = unsafe { CStr::from_ptr(parameter.field.as_ptr()) }
                .to_string_lossy()
                .into_owned();
            // SAFETY: `type_` says which member of the union is set.
            let number = unsafe {
                match u32::try_from(parameter.type_).unwrap_or_default() {
                    sys::VIR_TYPED_PARAM_INT => {
                        u64::try_from(parameter.value.i).unwrap_or_default()
                    }
                    sys::VIR_TYPED_PARAM_UINT => u64::from(parameter.value.ui),
                    sys::VIR_TYPED_PARAM_LLONG => {
                        u64::try_from(parameter.value.l).unwrap_or_default()
                    }
                    sys::VIR_TYPED_PARAM_ULLONG => parameter.value.ul,
                    sys::VIR_TYPED_PARAM_STRING if !parameter.value.s.is_null() => {
                        let text = CStr::from_ptr(parameter.value.s)
                            .to_string_lossy()
                            .into_owned();
                        fields.texts.insert(name, text);
                        continue;
                    }
                    _ => continue,
                }
            };
            fields.numbers.insert(name, number);
        }
        fields
    }

    fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or_default()
    }

    fn count(&self, name: &str) -> u64 {
        self.number(name).min(MAX_DEVICES)
    }

    fn text(&self, name: &str) -> String {
        self.texts.get(name).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disk_and_interface_gets_its_own_entry() {
        let mut fields = Fields::default();
        fields.numbers.extend([
            ("block.count".to_owned(), 2),
            ("block.1.rd.bytes".to_owned(), 7),
            ("net.count".to_owned(), 1),
            ("net.0.tx.pkts".to_owned(), 3),
        ]);
        fields.texts.insert("block.1.name".into(), "vdb".into());
        let statistics = Statistics::from_fields(&fields);
        assert_eq!(statistics.disks.len(), 2);
        assert_eq!(
            (
                statistics.disks[1].target.as_str(),
                statistics.disks[1].read_bytes
            ),
            ("vdb", 7)
        );
        assert_eq!(statistics.interfaces[0].transmit_packets, 3);
    }

    #[test]
    fn a_boundless_count_is_cut() {
        let mut fields = Fields::default();
        fields.numbers.insert("vcpu.current".into(), u64::MAX);
        assert_eq!(Statistics::from_fields(&fields).vcpus.len(), 1024);
    }
}
