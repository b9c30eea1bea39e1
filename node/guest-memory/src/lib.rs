//! KVM truth probe and agentless dmesg.
