// What the types of the package lack. First what the peer's API has, each with the type that the peer's own description gives it: the package's
// generator leaves out times that may be null, and renames what it takes for a word of its own.

import type { V1KubeVirtConfiguration } from "@kubevirt-ui-ext/kubevirt-api/kubevirt";

interface Times {
  lastProbeTime?: string | null;
  lastTransitionTime?: string | null;
}

declare module "@kubevirt-ui-ext/kubevirt-api/kubevirt" {
  interface V1KubeVirtCondition extends Times {}
  interface V1VirtualMachineCondition extends Times {}
  interface V1VirtualMachineInstanceCondition extends Times {}
  interface V1VirtualMachineInstanceReplicaSetCondition extends Times {}
  interface V1KubeVirtSpec {
    // There `_configuration`.
    configuration?: V1KubeVirtConfiguration;
  }
  interface K8sIoApimachineryPkgApisMetaV1ListMeta {
    // There `_continue`.
    continue?: string;
  }

  // What this project says besides; a client of the peer reads past it.
  interface V1VirtualMachineStatus {
    resolvedHardware?: string;
  }
  interface V1VirtualMachineInstanceStatus {
    resolvedHardware?: string;
  }
}
