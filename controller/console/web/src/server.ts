/** What is asked of the server of the console: the interface that the real one and the demo's share. */

import type { Meta } from "./kinds";
import { http } from "./http";

export type User = { name: string; groups: string[] };
export type Verb = "start" | "stop" | "restart" | "pause" | "unpause" | "softreboot" | "reset";
export type NodeVerb = "cordon" | "uncordon" | "drain";
export type Kind =
  | "virtualmachines"
  | "virtualmachineinstances"
  | "pods"
  | "events"
  | "nodes"
  | "namespaces"
  | "persistentvolumeclaims"
  | "baremetalhosts"
  | "hardwaredata"
  | "dataimages"
  | "virtualmachineinstancetypes"
  | "virtualmachineclusterinstancetypes"
  | "virtualmachinepreferences"
  | "virtualmachineclusterpreferences";
export type Written = Kind | "secrets";
export type List<T> = { metadata: { resourceVersion: string }; items: T[] };
export type Change<T> = { type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR"; object: T };
export type Cause = { field: string; message: string };
export type Mode = { mode: "kubernetes" | "play"; login: ("token" | "oidc" | "one-time")[]; version: string };
/** What the caller may do, by the thing that it is done to. */
export type Rights = { allowed: Record<string, string[]> };
export type Session = { id: string; user: string; since: string; seen: string; mine: boolean };
/** `left`: launcher pods that are still there. */
export type Drained = { evicted: number; refused: { pod: string; message: string }[]; left: number };
/** What one who only reads has said, or was told, of the keyboard. */
export type Keyboard = "none" | "asked" | "given";
export type Viewer = { id: string; user: string; stream: StreamKind; readOnly: boolean; since: string; keyboard: Keyboard };
export type BootDevice = "cd" | "pxe" | "disk" | "bios-setup";
export type HostChange = { online: boolean } | { reboot: "soft" | "hard" } | { inspect: true } | { bootOnce: BootDevice | null };
/** What a server's BMC is asked. */
export type HostTold = "sensors" | "events";
export type Told = "guestosinfo" | "userlist" | "filesystemlist" | "dmesg" | "usage" | "viewers";
/** Other sites, where there are some. */
export type Links = { grafana: string | null };
export type StreamKind = "console" | "vnc";
export type StreamWish = { readOnly: boolean; replay: boolean };

/** The part of a WebSocket that consoles use, so that a demo can be one. */
export type Channel = {
  binaryType: string;
  readyState: number | string;
  /** Its id among the machine's viewers. */
  viewer: string;
  protocol: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(): void;
};

/** The server refused, in its words. */
export class Refusal extends Error {
  readonly status: number;
  readonly causes: Cause[];
  constructor(status: number, message: string, causes: Cause[] = []) {
    super(message);
    this.status = status;
    this.causes = causes;
  }
}

export type Server = {
  mode(): Promise<Mode>;
  /** Who is logged in; nobody is `null`. */
  session(): Promise<User | null>;
  login(token: string): Promise<User>;
  logout(): Promise<void>;
  links(): Promise<Links>;
  rights(namespace: string): Promise<Rights>;
  list<T>(kind: Kind, namespace: string, signal?: AbortSignal): Promise<List<T>>;
  /** The changes from a version on, until the server ends the stream. Resolved when the stream is open. */
  watch<T>(kind: Kind, namespace: string, version: string, signal: AbortSignal): Promise<AsyncGenerator<Change<T>>>;
  get<T>(kind: Kind, namespace: string, name: string): Promise<T>;
  create<T extends Meta>(kind: Written, namespace: string, object: T, dryRun: boolean): Promise<T>;
  replace<T extends Meta>(kind: Kind, namespace: string, name: string, object: T, dryRun: boolean): Promise<T>;
  remove(kind: Kind, namespace: string, name: string): Promise<void>;
  act(namespace: string, name: string, verb: Verb, force: boolean): Promise<void>;
  node(name: string, verb: NodeVerb): Promise<Drained>;
  host(namespace: string, name: string, change: HostChange): Promise<void>;
  /** What a server's BMC shows right now; `skip`: entries of its log that are left out. */
  hostTold<T>(namespace: string, name: string, what: HostTold, skip: number): Promise<T>;
  /** What a guest or its node tells: JSON, and text for `dmesg`. */
  told(namespace: string, name: string, what: Told): Promise<unknown>;
  screenshot(namespace: string, name: string): Promise<Blob>;
  stream(namespace: string, name: string, kind: StreamKind, wish: StreamWish): Promise<Channel>;
  /** Asks for the keyboard on behalf of a viewer, or gives it. */
  hand(namespace: string, name: string, viewer: string, keyboard: Keyboard): Promise<void>;
  sessions(): Promise<Session[]>;
  endSession(id: string): Promise<void>;
};

/** The server that is in use. */
export let server: Server = http;

/** Takes another server: the demo's, before anything is asked. */
export function use(other: Server): void {
  server = other;
}
