//! What a container may use and do: resources and security context.

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::problem::Problem;
use super::{quantity, words};

/// Requests and limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Share of CPU when it is scarce, in thousandths of a CPU.
    pub cpu_request: Option<i64>,
    /// Most CPU, in thousandths of a CPU.
    pub cpu_limit: Option<i64>,
    /// Expected memory in bytes; says who is killed first when memory is scarce.
    pub memory_request: Option<i64>,
    /// Most memory in bytes.
    pub memory_limit: Option<i64>,
}

/// Security context of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// User of the first process.
    pub run_as_user: Option<i64>,
    /// Group of the first process.
    pub run_as_group: Option<i64>,
    /// Refuse to start as user 0.
    pub run_as_non_root: Option<bool>,
    /// Root file system read-only.
    pub read_only_root: bool,
    /// Every device and capability of the host.
    pub privileged: bool,
    /// Whether a process may get more rights than its parent.
    pub allow_privilege_escalation: bool,
    /// Capabilities added, without `CAP_`; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped, without `CAP_`; `ALL` for all.
    pub drop_capabilities: Vec<String>,
    /// `RuntimeDefault` (true) or `Unconfined` (false).
    pub seccomp: Option<bool>,
}

pub(super) fn resources(
    at: &str,
    resources: Option<&wire::ResourceRequirements>,
    problems: &mut Vec<Problem>,
) -> Resources {
    let Some(resources) = resources else {
        return Resources::default();
    };
    let mut read = |kind: &str, name: &str, parse: fn(&str) -> Option<i64>| {
        let list = if kind == "limits" {
            &resources.limits
        } else {
            &resources.requests
        };
        let Quantity(text) = list.as_ref()?.get(name)?;
        let value = parse(text).filter(|value| *value >= 0);
        if value.is_none() {
            problems.push(Problem::invalid(
                format!("{at}.{kind}.{name}"),
                text,
                "must be a quantity that is not negative, as in 100m, 2 or 64Mi",
            ));
        }
        value
    };
    let cpu_limit = read("limits", "cpu", quantity::milli);
    let memory_limit = read("limits", "memory", quantity::whole);
    let cpu_request = read("requests", "cpu", quantity::milli);
    let memory_request = read("requests", "memory", quantity::whole);
    for (name, request, limit) in [
        ("cpu", cpu_request, cpu_limit),
        ("memory", memory_request, memory_limit),
    ] {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            let text = resources
                .requests
                .as_ref()
                .and_then(|list| list.get(name))
                .map(|quantity| quantity.0.clone())
                .unwrap_or_default();
            problems.push(Problem::invalid(
                format!("{at}.requests.{name}"),
                text,
                format_args!("must be less than or equal to {name} limit"),
            ));
        }
    }
    Resources {
        cpu_request: cpu_request.or(cpu_limit),
        cpu_limit,
        memory_request: memory_request.or(memory_limit),
        memory_limit,
    }
}

/// `RuntimeDefault` is true, `Unconfined` is false.
pub(super) fn seccomp(
    at: &str,
    profile: Option<&wire::SeccompProfile>,
    problems: &mut Vec<Problem>,
) -> Option<bool> {
    match profile?.type_.as_str() {
        "RuntimeDefault" => Some(true),
        "Unconfined" => Some(false),
        other => {
            problems.push(Problem::unsupported(
                format!("{at}.seccompProfile.type"),
                other,
                &["RuntimeDefault", "Unconfined"],
            ));
            None
        }
    }
}

/// A user or group number.
pub(super) fn id(field: &str, value: Option<i64>, problems: &mut Vec<Problem>) -> Option<i64> {
    if let Some(value) = value {
        words::range(field, value, 0, i64::from(i32::MAX), problems);
    }
    value
}

pub(super) fn security(
    at: &str,
    context: Option<&wire::SecurityContext>,
    problems: &mut Vec<Problem>,
) -> Security {
    let Some(context) = context else {
        return Security {
            allow_privilege_escalation: true,
            ..Security::default()
        };
    };
    let capabilities = |list: Option<&Vec<String>>| {
        list.into_iter()
            .flatten()
            .map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned())
            .collect::<Vec<_>>()
    };
    let added = context
        .capabilities
        .as_ref()
        .and_then(|capabilities| capabilities.add.as_ref());
    let dropped = context
        .capabilities
        .as_ref()
        .and_then(|capabilities| capabilities.drop.as_ref());
    let security = Security {
        run_as_user: id(&format!("{at}.runAsUser"), context.run_as_user, problems),
        run_as_group: id(&format!("{at}.runAsGroup"), context.run_as_group, problems),
        run_as_non_root: context.run_as_non_root,
        read_only_root: context.read_only_root_filesystem.unwrap_or(false),
        privileged: context.privileged.unwrap_or(false),
        allow_privilege_escalation: context.allow_privilege_escalation.unwrap_or(true),
        add_capabilities: capabilities(added),
        drop_capabilities: capabilities(dropped),
        seccomp: seccomp(at, context.seccomp_profile.as_ref(), problems),
    };
    let admin = security
        .add_capabilities
        .iter()
        .any(|name| name == "SYS_ADMIN");
    if !security.allow_privilege_escalation && (security.privileged || admin) {
        let other = if security.privileged {
            "`privileged` is true"
        } else {
            "`capabilities.add` has SYS_ADMIN"
        };
        problems.push(Problem::invalid(
            format!("{at}.allowPrivilegeEscalation"),
            false,
            format_args!("must not be false when {other}"),
        ));
    }
    security
}
