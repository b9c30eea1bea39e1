/** Objects as YAML and back. Pure. Only for pages that are loaded later: the package is big. */

import { parseDocument, stringify } from "yaml";

/** Without what only programs read, and without some fields. */
export function text(object: object, besides: string[] = []): string {
  const shown: Record<string, unknown> = { ...object };
  for (const field of besides) delete shown[field];
  const { metadata } = shown as { metadata?: Record<string, unknown> };
  if (metadata && "managedFields" in metadata) {
    const { managedFields: _, ...rest } = metadata;
    shown.metadata = rest;
  }
  return stringify(shown, { lineWidth: 0 });
}

/** The object of a text; an error says where the text is wrong. */
export function parsed<T extends object>(text: string): T {
  const document = parseDocument(text, { prettyErrors: true });
  const wrong = document.errors[0];
  if (wrong?.code === "MULTIPLE_DOCS") throw new Error("has several documents, and only one object is edited here");
  if (wrong) throw new Error(wrong.message);
  const object: unknown = document.toJS({ maxAliasCount: 100 });
  if (typeof object !== "object" || object === null || Array.isArray(object)) throw new Error("must be one object");
  return object as T;
}

/** The text of a file with a machine, which is in `namespace` where the file does not say. What is no YAML yet comes as it is, to be mended. */
export function machineOf(text: string, namespace: string): string {
  if (/[\0\uFFFD]/.test(text)) throw new Error("is no text");
  let object: { kind?: unknown; metadata?: Record<string, unknown> };
  try {
    object = parsed(text);
  } catch (failure) {
    if (failure instanceof Error && failure.message.startsWith("has several")) throw failure;
    return text;
  }
  if (object.kind !== "VirtualMachine") throw new Error(`has a ${typeof object.kind === "string" ? object.kind : "thing without a kind"}, and the form makes VirtualMachines`);
  if (object.metadata?.namespace) return text;
  return stringify({ ...object, metadata: { ...object.metadata, namespace } }, { lineWidth: 0 });
}
