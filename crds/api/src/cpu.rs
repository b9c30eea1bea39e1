//! Processors.

spec! {
    /// Processors: topology, model and features.
    pub struct Cpu {
        optional {
            /// Cores of a socket; 1 by default.
            cores: Option<u32>,
            /// Feature policies.
            features: Vec<CpuFeature>,
            /// Sockets that may be plugged in later.
            max_sockets: Option<u32>,
            /// `host-model` (the default), `host-passthrough` or a model's name.
            model: Option<String>,
            /// Sockets; 1 by default.
            sockets: Option<u32>,
            /// Threads of a core; 1 by default.
            threads: Option<u32>,
        }
    }

    /// One processor feature.
    pub struct CpuFeature {
        required {
            /// The hypervisor's name, such as `vmx`.
            name: String,
        }
        optional {
            /// `force`, `require` (the default), `optional`, `disable` or `forbid`.
            policy: Option<String>,
        }
    }
}
