//! MachineSpec and host facts to a plan and domain XML.
