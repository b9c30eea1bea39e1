//! `DataImage` and `PreprovisioningImage`: what servers are shown as a CD.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::CustomResource;

status! {
    /// A CD for a server in use.
    #[derive(CustomResource)]
    #[kube(
        group = "metal3.io",
        version = "v1alpha1",
        kind = "DataImage",
        plural = "dataimages",
        singular = "dataimage",
        namespaced,
        status = "crate::metal3::image::DataImageStatus",
        derive = "PartialEq",
        derive = "Default",
        doc = "A CD for the server of the same name.",
        crates(kube_core = "::kube_core")
    )]
    pub struct DataImageSpec {
        required {
            /// Where it is.
            url: String,
        }
    }

    /// The CD that is in.
    pub struct DataImageStatus {
        optional {
            /// The CD that is in.
            attached_image: Option<AttachedImage>,
            /// What went wrong.
            error: Option<DataImageError>,
            /// When it was looked at last.
            last_reconciled: Option<Time>,
        }
    }

    /// A CD that is in.
    pub struct AttachedImage {
        required {
            /// Where it is.
            url: String,
        }
    }

    /// What went wrong with a CD.
    pub struct DataImageError {
        required {
            /// How often.
            count: i64,
            /// What.
            message: String,
        }
    }

    /// A deploy agent of one's own that is asked for.
    #[derive(CustomResource)]
    #[kube(
        group = "metal3.io",
        version = "v1alpha1",
        kind = "PreprovisioningImage",
        plural = "preprovisioningimages",
        singular = "preprovisioningimage",
        shortname = "ppimg",
        namespaced,
        status = "crate::metal3::image::PreprovisioningImageStatus",
        derive = "PartialEq",
        derive = "Default",
        doc = "The deploy agent's image for the server of the same name.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
        printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason")
    )]
    pub struct PreprovisioningImageSpec {
        optional {
            /// Formats that will do: `iso`, `initrd`.
            accept_formats: Vec<String>,
            /// Architecture.
            architecture: Option<String>,
            /// Secret with the network configuration.
            network_data_name: Option<String>,
        }
    }

    /// The deploy agent's image.
    pub struct PreprovisioningImageStatus {
        optional {
            /// Architecture.
            architecture: Option<String>,
            /// Conditions, one of each type: `Ready`, `Error`.
            #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
            conditions: Vec<Condition>,
            /// For the kernel's command line.
            extra_kernel_params: Option<String>,
            /// `iso` or `initrd`.
            #[schemars(extend("enum" = ["iso", "initrd"]))]
            format: Option<String>,
            /// Where the image is.
            image_url: Option<String>,
            /// Where the kernel is.
            kernel_url: Option<String>,
            /// The Secret with the network configuration that is in it.
            network_data: Option<SecretVersion>,
        }
    }

    /// A Secret at one moment.
    pub struct SecretVersion {
        optional {
            /// Name.
            name: Option<String>,
            /// Version.
            version: Option<String>,
        }
    }
}
