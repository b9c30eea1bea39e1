//! What the host's processor says about virtualisation: facts beside the probe's verdict, which explain it to a person.

use std::fs;

use serde::{Deserialize, Serialize};

/// The host's processor, from `/proc/cpuinfo` and KVM's module parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostCpu {
    /// The processor's name, as the kernel gives it.
    pub model: String,
    /// Intel's virtualisation is offered.
    pub vmx: bool,
    /// AMD's virtualisation is offered.
    pub svm: bool,
    /// This host is itself a virtual machine, so that a KVM here is nested.
    pub virtual_machine: bool,
    /// Guests of this host may themselves use KVM; `None` where KVM's module says nothing.
    pub nested_guests: Option<bool>,
}

impl HostCpu {
    /// Reads the facts; what cannot be read stays empty.
    #[must_use]
    pub fn read() -> HostCpu {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let nested_guests = ["kvm_intel", "kvm_amd"]
            .iter()
            .find_map(|module| {
                fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).ok()
            })
            .map(|value| matches!(value.trim(), "1" | "Y" | "y"));
        HostCpu {
            nested_guests,
            ..HostCpu::parse(&cpuinfo)
        }
    }

    /// Whether the processor offers hardware virtualisation at all.
    #[must_use]
    pub fn has_virtualisation(&self) -> bool {
        self.vmx || self.svm
    }

    /// One line for a person.
    #[must_use]
    pub fn words(&self) -> String {
        let model = if self.model.is_empty() {
            "unknown processor"
        } else {
            &self.model
        };
        let offers = match (self.vmx, self.svm) {
            (true, _) => "Intel VT-x (vmx)",
            (false, true) => "AMD-V (svm)",
            (false, false) => "no hardware virtualisation (neither vmx nor svm)",
        };
        let place = if self.virtual_machine {
            "; this host is itself a virtual machine"
        } else {
            ""
        };
        let nested = match self.nested_guests {
            Some(true) => "; nested guests allowed",
            Some(false) => "; nested guests not allowed",
            None => "",
        };
        format!("{model}: {offers}{place}{nested}")
    }

    fn parse(cpuinfo: &str) -> HostCpu {
        let field = |name: &str| {
            cpuinfo.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim())
            })
        };
        let flags = field("flags").unwrap_or_default();
        let has = |flag: &str| flags.split_ascii_whitespace().any(|f| f == flag);
        HostCpu {
            model: field("model name").unwrap_or_default().to_owned(),
            vmx: has("vmx"),
            svm: has("svm"),
            virtual_machine: has("hypervisor"),
            nested_guests: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_intel_machine() {
        let cpu = HostCpu::parse(
            "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu vme vmx ept\n\nprocessor\t: 1\n",
        );
        assert_eq!(
            cpu,
            HostCpu {
                model: "Intel(R) Xeon(R)".to_owned(),
                vmx: true,
                ..HostCpu::default()
            }
        );
        assert_eq!(cpu.words(), "Intel(R) Xeon(R): Intel VT-x (vmx)");
    }

    #[test]
    fn a_virtual_machine_without_svm() {
        let cpu = HostCpu::parse("model name\t: AMD EPYC\nflags\t\t: fpu hypervisor svm_lock\n");
        assert!(cpu.virtual_machine && !cpu.has_virtualisation());
        assert!(
            cpu.words().contains("neither vmx nor svm"),
            "{}",
            cpu.words()
        );
    }

    #[test]
    fn nonsense_is_unknown() {
        assert_eq!(HostCpu::parse("\0\u{1}:::\n"), HostCpu::default());
    }
}
