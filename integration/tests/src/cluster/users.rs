//! People on a cluster: service accounts with a role, and their tokens.

use anyhow::Result;

use super::Cluster;

impl Cluster {
    /// A service account with a role, in this namespace only or in all of them, and its token. A binding for all namespaces is
    /// `clusterrolebinding/NAMESPACE-NAME`, and stays when the namespace goes.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn user(&self, name: &str, role: &str, everywhere: bool) -> Result<String> {
        let namespace = self.namespace();
        self.kubectl(["create", "serviceaccount", name])?;
        let (role, account) = (
            format!("--clusterrole={role}"),
            format!("--serviceaccount={namespace}:{name}"),
        );
        if everywhere {
            let name = format!("{namespace}-{name}");
            self.kubectl(["create", "clusterrolebinding", &name, &role, &account])?;
        } else {
            self.kubectl(["create", "rolebinding", name, &role, &account])?;
        }
        self.token(name)
    }

    /// A token of a service account.
    ///
    /// # Errors
    /// When there is none.
    pub fn token(&self, name: &str) -> Result<String> {
        let token = self.kubectl(["create", "token", name, "--duration=1h"])?;
        Ok(token.trim().to_owned())
    }
}
