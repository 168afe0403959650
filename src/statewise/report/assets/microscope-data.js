// The microscope's data as `report/microscope.py` packed it.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const DIGIT = new Map([...DIGITS].map((character, i) => [character, i]));
const PROBABILITY_WIDTH = 2;
const POLICIES = ["base", "teacher", "student"];

/** The number that `width` digits from `at` on say. */
function unpacked(text, at, width) {
  let value = 0;
  for (let i = 0; i < width; i += 1) value = value * 64 + DIGIT.get(text[at + i]);
  return value;
}

/** One completion of one arm, read on demand. */
class Rollout {
  constructor(data, raw) {
    Object.assign(this, { data, raw, kind: raw.kind, trainedOn: raw.trained_on, score: raw.score, stopped: raw.stopped });
    this.length = raw.tokens.length / data.width;
  }

  /** Which token it is: two tokens may have one text, so ids are compared and never texts. */
  index(t) { return unpacked(this.raw.tokens, t * this.data.width, this.data.width); }

  token(t) { return this.data.vocabulary[this.index(t)]; }

  owner(t) { const at = this.raw.owner; return this.raw.owners[Array.isArray(at) ? at[t] : at]; }

  /** A number of the state before token t; null where it is not defined. */
  number(name, t) {
    const column = this.raw[name];
    const value = Array.isArray(column) ? column[t] : column;
    return value === null || value === undefined ? null : value / this.data.scales[name];
  }

  /** The likeliest next tokens of a policy at the state before token t, or null where there is no such policy. */
  top(policy, t) {
    const packed = this.raw.top[policy];
    if (!packed) return null;
    const each = this.data.width + PROBABILITY_WIDTH;
    const found = [];
    for (let i = 0; i < this.data.top; i += 1) {
      const at = (t * this.data.top + i) * each;
      const index = unpacked(packed, at, this.data.width);
      if (index < this.data.vocabulary.length) {
        const p = unpacked(packed, at + this.data.width, PROBABILITY_WIDTH) / 1000;
        found.push({ text: this.data.vocabulary[index], p, index });
      }
    }
    return found;
  }

  /** The base's first choice: its probability there and under the student, who may not list it among the five. */
  first(t) {
    const [first] = this.top("base", t) ?? [];
    const student = this.top("student", t);
    if (!first || !student?.length) return null;
    const kept = student.find((entry) => entry.index === first.index);
    return { before: first.p, after: (kept ?? student.at(-1)).p, listed: Boolean(kept) };
  }

  /** How much of its probability the base's first choice has lost, at least. */
  forgotten(t) {
    const found = this.first(t);
    return found ? found.before - found.after : null;
  }
}

/** All completions: `rollout(prompt, arm, kind)`, and every state for ranking. */
class Completions {
  constructor(data) {
    this.data = data;
    this.prompts = data.prompts;
    this.rollouts = data.prompts.map((prompt) => new Map(
      Object.entries(prompt.arms).map(([arm, rollouts]) => [arm, rollouts.map((raw) => new Rollout(data, raw))]),
    ));
  }

  /** The arm's completion of that kind; its own where it has no other. */
  rollout(prompt, arm, kind) {
    const rollouts = this.rollouts[prompt].get(arm) ?? [];
    return rollouts.find((rollout) => rollout.kind === kind) ?? rollouts.find((rollout) => rollout.kind === "own") ?? rollouts[0] ?? null;
  }

  /** Every state of every completion. */
  * states() {
    for (const [prompt, arms] of this.rollouts.entries()) {
      for (const [arm, rollouts] of arms) {
        for (const rollout of rollouts) for (let t = 0; t < rollout.length; t += 1) yield { prompt, arm, rollout, t };
      }
    }
  }

  /** The states where `value` is largest, at most `most`, the largest first. */
  ranked(value, arm, most = 200) {
    const found = [];
    for (const state of this.states()) {
      if (arm && state.arm !== arm) continue;
      const size = value(state.rollout, state.t);
      if (size !== null && size > 0) found.push({ ...state, size });
    }
    return found.sort((a, b) => b.size - a.size).slice(0, most);
  }
}

const STEPS = 9;
const SIGNED = new Set(["gap", "advantage"]);

/** A colour scale for one measure, the same for every prompt and arm of the page. */
class Scale {
  constructor(completions, name) {
    const sizes = [];
    for (const { rollout, t } of completions.states()) {
      const value = rollout.number(name, t);
      if (value !== null) sizes.push(Math.abs(value));
    }
    sizes.sort((a, b) => a - b);
    // The largest of a hundred: a single loud token must not leave all others pale.
    this.most = sizes.length ? sizes[Math.min(sizes.length - 1, Math.floor(0.99 * sizes.length))] || sizes.at(-1) : 0;
    this.name = name;
    this.signed = SIGNED.has(name);
  }

  /** The class of a value: square-root steps, so that small values can be told apart. */
  css(value) {
    if (value === null) return "none";
    const share = this.most ? Math.min(1, Math.sqrt(Math.abs(value) / this.most)) : 0;
    if (this.signed) return `div${4 + Math.sign(value) * Math.round(4 * share)}`;
    return `heat${Math.min(STEPS - 1, Math.floor(share * STEPS))}`;
  }

  /** Each step's class and a value in its middle. */
  steps() {
    const all = [...Array(STEPS).keys()];
    if (this.signed) return all.map((i) => [`div${i}`, Math.sign(i - 4) * ((i - 4) / 4) ** 2 * this.most]);
    return all.map((i) => [`heat${i}`, (i / STEPS) ** 2 * this.most]);
  }
}
