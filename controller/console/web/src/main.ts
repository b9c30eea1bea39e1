import { mount } from "svelte";
import App from "./App.svelte";
import { use } from "./server";
import "./style.css";
import { begin as beginTheme } from "./theme.svelte";

beginTheme();
const query = new URLSearchParams(location.search);
if (query.has("demo")) {
  const { demo } = await import("./demo/server");
  use(demo({ many: Math.min(Number(query.get("many")) || 0, 5000), viewer: query.has("viewer"), loggedOut: query.has("login") }));
}
mount(App, { target: document.body, props: { demo: query.has("demo") } });
