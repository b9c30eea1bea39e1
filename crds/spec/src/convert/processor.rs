//! Processors, memory, resources and I/O threads.

use catamaran_api::DomainSpec;

use crate::defaults;
use crate::field::{Faults, FieldPath};
use crate::hardware::{Cpu, CpuFeature, CpuModel, FeaturePolicy, IoThreads, Memory};
use crate::machine::Resources;
use crate::quantity;

const MIB: u64 = 1 << 20;

const POLICIES: [(&str, FeaturePolicy); 5] = [
    ("force", FeaturePolicy::Force),
    ("require", FeaturePolicy::Require),
    ("optional", FeaturePolicy::Optional),
    ("disable", FeaturePolicy::Disable),
    ("forbid", FeaturePolicy::Forbid),
];

/// Topology, model and features. A machine without a topology has as many sockets as its CPU request or limit.
pub(super) fn cpu(domain: &DomainSpec, at: &FieldPath, faults: &mut Faults) -> Cpu {
    let path = at.child("cpu");
    let empty = catamaran_api::Cpu::default();
    let cpu = domain.cpu.as_ref().unwrap_or(&empty);
    let given = |count: Option<u32>| count.filter(|c| *c > 0);
    let named = given(cpu.cores)
        .or(given(cpu.sockets))
        .or(given(cpu.threads))
        .is_some();
    let sockets = if named {
        given(cpu.sockets)
    } else {
        sockets_from_resources(domain)
    }
    .unwrap_or(defaults::TOPOLOGY);
    let cores = given(cpu.cores).unwrap_or(defaults::TOPOLOGY);
    let threads = given(cpu.threads).unwrap_or(defaults::TOPOLOGY);
    let max_sockets = given(cpu.max_sockets).unwrap_or(sockets);
    if max_sockets < sockets {
        faults.invalid(
            &path.child("maxSockets"),
            max_sockets,
            &format!("must be greater than or equal to {sockets}, the sockets plugged in at start"),
        );
    }
    let all = u64::from(max_sockets.max(sockets))
        .saturating_mul(u64::from(cores))
        .saturating_mul(u64::from(threads));
    if all > defaults::MAX_VCPUS {
        faults.invalid(
            &path,
            all,
            &format!(
                "must be less than or equal to {} vCPUs (sockets x cores x threads)",
                defaults::MAX_VCPUS
            ),
        );
    }
    Cpu {
        sockets,
        cores,
        threads,
        max_sockets,
        model: model(cpu.model.as_deref(), &path, faults),
        features: features(cpu, &path, faults),
    }
}

fn sockets_from_resources(domain: &DomainSpec) -> Option<u32> {
    let resources = domain.resources.as_ref()?;
    let cpu = resources
        .requests
        .get("cpu")
        .or_else(|| resources.limits.get("cpu"))?;
    u32::try_from(quantity::units(cpu.as_str())?)
        .ok()
        .filter(|n| *n > 0)
}

fn model(model: Option<&str>, path: &FieldPath, faults: &mut Faults) -> CpuModel {
    match model {
        None | Some("" | "host-model") => CpuModel::HostModel,
        Some("host-passthrough") => CpuModel::HostPassthrough,
        Some(name) => {
            if !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            {
                faults.invalid(
                    &path.child("model"),
                    name,
                    "must be host-model, host-passthrough or a model's name",
                );
            }
            CpuModel::Named(name.to_owned())
        }
    }
}

fn features(cpu: &catamaran_api::Cpu, path: &FieldPath, faults: &mut Faults) -> Vec<CpuFeature> {
    let mut features: Vec<CpuFeature> = Vec::new();
    for (i, feature) in cpu.features.iter().enumerate() {
        let path = path.child("features").index(i);
        if feature.name.is_empty() {
            faults.required(&path.child("name"), "");
        } else if features.iter().any(|f| f.name == feature.name) {
            faults.duplicate(&path.child("name"), &feature.name);
        } else if !feature
            .name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            faults.invalid(
                &path.child("name"),
                &feature.name,
                "must be a feature's name such as vmx",
            );
        }
        let word = feature.policy.as_deref().filter(|p| !p.is_empty());
        let policy = faults
            .word(&path.child("policy"), word, &POLICIES)
            .unwrap_or(FeaturePolicy::Require);
        features.push(CpuFeature {
            name: feature.name.clone(),
            policy,
        });
    }
    features
}

/// Guest memory; `None` when it cannot be told.
pub(super) fn memory(domain: &DomainSpec, at: &FieldPath, faults: &mut Faults) -> Option<Memory> {
    let path = at.child("memory");
    let limit = resource(domain, "limits", "memory", at, faults);
    let request = resource(domain, "requests", "memory", at, faults);
    let wanted = domain.memory.as_ref().and_then(|m| m.guest.as_ref());
    let guest = match wanted {
        Some(quantity) => bytes(quantity.as_str(), &path.child("guest"), faults)?,
        None => {
            match request.or(limit) {
                Some(bytes) => bytes,
                None => {
                    faults.required(&path.child("guest"), "set memory.guest, or resources.requests.memory, or resources.limits.memory");
                    return None;
                }
            }
        }
    };
    if guest < MIB {
        faults.invalid(
            &path.child("guest"),
            guest,
            "must be greater than or equal to 1Mi",
        );
        return None;
    }
    if let Some(limit) = limit.filter(|limit| guest > *limit) {
        faults.invalid(
            &path.child("guest"),
            guest,
            &format!("must be less than or equal to the memory limit, {limit}"),
        );
    }
    if let (Some(request), Some(limit)) = (request, limit)
        && request > limit
    {
        faults.invalid(
            &at.child("resources").child("requests").key("memory"),
            request,
            &format!("must be less than or equal to the memory limit, {limit}"),
        );
    }
    let max_guest = domain
        .memory
        .as_ref()
        .and_then(|m| m.max_guest.as_ref())
        .and_then(|q| bytes(q.as_str(), &path.child("maxGuest"), faults));
    if let Some(max) = max_guest.filter(|max| *max < guest) {
        faults.invalid(
            &path.child("maxGuest"),
            max,
            &format!("must be greater than or equal to the guest memory, {guest}"),
        );
    }
    // QEMU wants whole MiB; more is harmless, less would break a promise.
    let guest = guest.checked_next_multiple_of(MIB)?;
    Some(Memory {
        guest,
        max_guest,
        hugepages: hugepages(domain, guest, &path, faults),
    })
}

fn hugepages(
    domain: &DomainSpec,
    guest: u64,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<u64> {
    let hugepages = domain.memory.as_ref()?.hugepages.as_ref()?;
    let path = path.child("hugepages").child("pageSize");
    let Some(text) = hugepages.page_size.as_deref() else {
        faults.required(&path, "");
        return None;
    };
    let size = faults.word(&path, Some(text), &[("2Mi", 2 * MIB), ("1Gi", 1024 * MIB)])?;
    if !guest.is_multiple_of(size) {
        faults.invalid(
            &path,
            text,
            &format!("the guest memory, {guest} bytes, must be a multiple of the page size"),
        );
    }
    Some(size)
}

fn bytes(text: &str, path: &FieldPath, faults: &mut Faults) -> Option<u64> {
    let value = quantity::units(text);
    if value.is_none() {
        faults.invalid(path, text, "must be a positive quantity such as 512Mi");
    }
    value
}

/// An entry of `resources.requests` or `.limits`, bytes.
fn resource(
    domain: &DomainSpec,
    side: &str,
    name: &str,
    at: &FieldPath,
    faults: &mut Faults,
) -> Option<u64> {
    let resources = domain.resources.as_ref()?;
    let map = if side == "limits" {
        &resources.limits
    } else {
        &resources.requests
    };
    bytes(
        map.get(name)?.as_str(),
        &at.child("resources").child(side).key(name),
        faults,
    )
}

/// What the node is asked for. Extended resources are refused by the support table.
pub(super) fn resources(domain: &DomainSpec, at: &FieldPath, faults: &mut Faults) -> Resources {
    let Some(resources) = &domain.resources else {
        return Resources::default();
    };
    let path = at.child("resources");
    let mut cpu = [None, None];
    for (slot, (side, map)) in cpu.iter_mut().zip([
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ]) {
        // Memory is read below; other resources are refused by the support table.
        let Some(quantity) = map.get("cpu") else {
            continue;
        };
        *slot = quantity::millis(quantity.as_str());
        if slot.is_none() {
            let path = path.child(side).key("cpu");
            faults.invalid(&path, quantity, "must be a positive quantity such as 500m");
        }
    }
    if let [Some(request), Some(limit)] = cpu
        && request > limit
    {
        faults.invalid(
            &path.child("requests").key("cpu"),
            format!("{request}m"),
            &format!("must be less than or equal to the CPU limit, {limit}m"),
        );
    }
    Resources {
        cpu_request_millis: cpu[0],
        cpu_limit_millis: cpu[1],
        memory_request: resource(domain, "requests", "memory", at, faults),
        memory_limit: resource(domain, "limits", "memory", at, faults),
        overcommit_guest_overhead: resources.overcommit_guest_overhead.unwrap_or(false),
    }
}

/// I/O thread policy.
pub(super) fn io_threads(domain: &DomainSpec, at: &FieldPath, faults: &mut Faults) -> IoThreads {
    #[derive(Clone, Copy)]
    enum Policy {
        Shared,
        Auto,
        Pool,
    }
    let words = [
        ("shared", Policy::Shared),
        ("auto", Policy::Auto),
        ("supplementalPool", Policy::Pool),
    ];
    let count_path = at.child("ioThreads").child("supplementalPoolThreadCount");
    let count = domain
        .io_threads
        .as_ref()
        .and_then(|t| t.supplemental_pool_thread_count);
    let policy = faults.word(
        &at.child("ioThreadsPolicy"),
        domain.io_threads_policy.as_deref(),
        &words,
    );
    match (policy, count) {
        (Some(Policy::Pool), Some(count @ 1..=64)) => IoThreads::SupplementalPool(count),
        (Some(Policy::Pool), Some(count)) => {
            faults.invalid(&count_path, count, "must be between 1 and 64, inclusive");
            IoThreads::None
        }
        (Some(Policy::Pool), None) => {
            faults.required(
                &count_path,
                "the number of I/O threads must be set with the supplementalPool policy",
            );
            IoThreads::None
        }
        (other, Some(count)) => {
            faults.invalid(
                &count_path,
                count,
                "must be set with the supplementalPool policy only",
            );
            if matches!(other, Some(Policy::Auto)) {
                IoThreads::Auto
            } else {
                IoThreads::None
            }
        }
        (Some(Policy::Shared), None) => IoThreads::Shared,
        (Some(Policy::Auto), None) => IoThreads::Auto,
        (None, None) => IoThreads::None,
    }
}
