/**
 * The few DOM helpers that the page's modules share.
 */

/**
 * The element with this id; that it is there is the page's own business.
 * @template {HTMLElement} [Type=HTMLElement]
 * @param {string} id
 * @returns {Type}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return /** @type {Type} */ (element);
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function create(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

/**
 * @param {string} name A symbol of the page's sprite.
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  setIcon(svg, name);
  return svg;
}

/**
 * @param {Element} parent
 * @param {string} name
 */
export function setIcon(parent, name) {
  parent.querySelector("use")?.setAttribute("href", `#i-${name}`);
}

/**
 * A button for what is on or off. Its name says what pressing it does, so it is no toggle button to those
 * who do not see it: "Mute, pressed" would say the contrary of what is.
 * @param {HTMLElement} button
 * @param {boolean} on
 * @param {string} iconName
 * @param {string} label What pressing it does.
 */
export function setSwitch(button, on, iconName, label) {
  button.dataset.on = String(on);
  button.title = label;
  setIcon(button, iconName);
  const words = button.querySelector("span");
  if (words) words.textContent = label;
  else button.setAttribute("aria-label", label);
}

/**
 * What one can choose from.
 * @param {HTMLSelectElement} picker
 * @param {{value: string, label: string}[]} choices
 * @param {string | undefined} chosen
 * @param {string} none What is said if there is no choice.
 */
export function setChoices(picker, choices, chosen, none) {
  const options = choices.map(({ value, label }) => new Option(label, value, false, value === chosen));
  picker.replaceChildren(...(options.length > 0 ? options : [new Option(none)]));
  picker.disabled = options.length === 0;
}

/** So long a toast stays, milliseconds. */
const TOAST_MS = 4_000;
/** When many come at once, the latest few are enough. */
const MAX_TOASTS = 4;

/** @param {string} words */
export function toast(words) {
  const element = create("p", "toast", words);
  const toasts = byId("toasts");
  toasts.append(element);
  if (toasts.children.length > MAX_TOASTS) toasts.firstElementChild?.remove();
  setTimeout(() => element.remove(), TOAST_MS);
}
