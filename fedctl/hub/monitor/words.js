// How things are written for a person. What comes from the store may hold anything: it is shown, never obeyed.

const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

// Controls, and what turns the direction of writing around: a picture in their place, as they would hide something.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

export const count = (value) => number.format(value);

/** Return text with nothing in it that is not seen, of at most `most` characters. */
export function plain(value, most = 200) {
  const text = typeof value === "string" ? value : value == null ? "" : JSON.stringify(value);
  const start = text.length > most * 2 ? text.slice(0, most * 2) : text;
  const characters = Array.from(start);
  const cut = characters.length > most || start.length < text.length;
  return (cut ? characters.slice(0, most).join("") + "…" : start).replace(UNSEEN, "�");
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${at && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]].map(([size, unit], at, all) => {
    const above = at ? all[at - 1][0] : Infinity;
    return [Math.floor((whole % above) / size), unit];
  });
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return "0s";
  return parts.slice(first, first + 2).filter(([value], at) => at === 0 || value > 0).map(([value, unit]) => value + unit).join(" ");
}

export function rate(value) {
  if (value === null) return "–";
  return value >= 100 ? count(Math.round(value)) : value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

export function ms(value) {
  if (value == null) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

export const timeOfDay = (instant) => clock.format(new Date(instant));
export const moment = (instant) => day.format(new Date(instant));
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

/** Return a phase or a kind as words. */
export const spelt = (name) => plain(name).replaceAll("_", " ");
