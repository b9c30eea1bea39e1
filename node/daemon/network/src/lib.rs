//! Attachment and binding of guest and pod networks.
