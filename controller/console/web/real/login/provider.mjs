/**
 * An OpenID Connect provider: `oidc-provider` with its own pages, one confidential client and people who are whoever they say.
 *
 * Told by JSON in its first argument: issuer (`https://127.0.0.1:PORT`), key and certificate (paths), and the client's id, secret and redirect.
 */

import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { Provider } from "oidc-provider";

const { issuer, key, certificate, id, secret, redirect } = JSON.parse(process.argv[2]);

/** Groups by person. */
const GROUPS = { ann: ["operators"], bob: [], eve: ["operators"] };

const provider = new Provider(issuer, {
  clients: [{ client_id: id, client_secret: secret, redirect_uris: [redirect], grant_types: ["authorization_code"], response_types: ["code"] }],
  pkce: { required: () => true },
  scopes: ["openid", "email", "profile", "groups"],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
  // In the ID token, which is all that an API server sees.
  conformIdTokenClaims: false,
  cookies: { keys: ["of a test"] },
  findAccount: (_, name) => ({
    accountId: name,
    claims: () => ({ sub: name, name, email: `${name}@example.org`, email_verified: name !== "eve", groups: GROUPS[name] ?? [] }),
  }),
});

createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, provider.callback()).listen(new URL(issuer).port, "127.0.0.1");
