/**
 * Styles of the terminal under a policy without inline styles. The terminal writes style elements and style attributes, both of which such a
 * policy refuses; style sheets that are adopted and properties of styles are no inline styles.
 */

/** In place of the method: a style attribute is set as properties. */
function setAttribute(this: HTMLElement, name: string, value: string): void {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

const create = (name: string, options?: ElementCreationOptions): HTMLElement => Document.prototype.createElement.call(document, name, options);

/** Stands for a style element, which would be refused even when it is empty. */
function styleElement(): HTMLElement {
  const element = create("span");
  element.hidden = true;
  const sheet = new CSSStyleSheet();
  let text = "";
  Object.defineProperty(element, "textContent", {
    get: () => text,
    set(value: string) {
      text = value;
      sheet.replaceSync(value);
      if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets.push(sheet);
    },
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

/** From now on the page's document makes elements in this way. */
export function quietStyles(): void {
  document.createElement = ((name: string, options?: ElementCreationOptions) => {
    if (name === "style") return styleElement();
    const element = create(name, options);
    element.setAttribute = setAttribute;
    return element;
  }) as typeof document.createElement;
}
