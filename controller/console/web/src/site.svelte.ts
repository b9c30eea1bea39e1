/** What this page came from: a cluster, or one computer alone (`play`), which has no pages of nodes and servers. */
export const site = $state({ cluster: true });
