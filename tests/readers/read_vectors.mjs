// Reads the vectors of the envelope as a program in JavaScript would, and prints its results as
// JSON.
//
// Usage: node read_vectors.mjs envelope-vectors.json
//
// It knows the page docs/internals/envelope.md and nothing of the Rust code. Each part of an entry
// has one function. An extension of the format (a shape, a flag, a form of the payload) is a change
// of `head` or `payload`. It has no keys, so an encrypted value is a miss. The folder of the
// packages is in NODE_MODULES.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_MODULES}/`);
const { Decoder, decode } = require("@msgpack/msgpack");
const { createXXHash3 } = require("hash-wasm");
const { decompress } = require("fzstd");
const { decompressBlock } = require("lz4js");

const VERSION = 2;
const KEY = Buffer.from("user:42");
const KINDS = ["value", "absence", "lease", "guard"];
const [NIL, U64, BIN] = [0xc0, 0xcf, 0xc6];
const [ZSTD, LZ4, ENCRYPTED] = [1, 2, 4];
const FLAGS = [ZSTD, LZ4, ENCRYPTED, ZSTD | ENCRYPTED, LZ4 | ENCRYPTED];
// A reader refuses a payload that expands beyond this.
const MOST = 4 << 20;
const LEVELS = 128;

class Corrupt extends Error {}
class Newer extends Error {}

function head(entry) {
  if (entry.length < 35 || entry[0] < 0x90 || entry[0] > 0x9f) throw new Corrupt();
  if (entry[1] >= 2 && entry[1] <= 0x7f) throw new Newer();
  const markers = [[0, 0x9d], [1, 1], [3, 0xcd], [6, 0xce], [11, U64], [20, 0xce], [25, 0xce]];
  if (entry[2] > 3 || markers.some(([at, marker]) => entry[at] !== marker)) throw new Corrupt();
  const kind = KINDS[entry[2]];
  const stamp = entry.readBigUInt64BE(12);
  const header = {
    kind,
    version: entry.readUInt16BE(4),
    shape: entry.readUInt32BE(7),
    stamp_micros: stamp >> 12n,
    stamp_random: stamp & 0xfffn,
    key: entry.readUInt32BE(21),
    sum: entry.readUInt32BE(26),
  };
  if (FLAGS.includes(entry[30])) header.flags = entry[30];
  else if (entry[30] !== NIL) throw new Newer();
  let at = 33;
  if (entry[31] === U64) {
    if (entry.length < 51) throw new Corrupt();
    if (entry[40] !== U64 || kind !== "value") throw new Newer();
    const claim = entry.readBigUInt64BE(41);
    header.fresh_until_millis = entry.readBigUInt64BE(32);
    header.claimed_until_millis = (claim >> 24n) * 10n;
    header.claim_token = claim & 0xffffffn;
    at = 49;
  } else if (entry[31] !== NIL || entry[32] !== NIL) {
    throw new Newer();
  }
  if (entry[at] === NIL) {
    if (entry[at + 1] !== NIL) throw new Newer();
    return [header, at + 2];
  }
  if (entry[at] !== U64) throw new Newer();
  if (entry.length < at + 10) throw new Corrupt();
  const marker = entry[at + 9];
  const array = (marker >= 0x90 && marker <= 0x9f) || marker === 0xdc;
  if (!array || kind === "lease" || kind === "guard") throw new Newer();
  header.clock = entry.readBigUInt64BE(at + 1);
  header.tags = null;
  return [header, at + 9];
}

// The documents in the bytes, with the offset after each.
function documents(bytes, number) {
  const all = [];
  let at = 0;
  for (let n = 0; n < number; n++) {
    const length = lengthOf(bytes.subarray(at));
    all.push(decode(bytes.subarray(at, at + length), { useBigInt64: true }));
    at += length;
  }
  return [all, at];
}

// The length of a text. `decodeMulti` does not tell where a document ends.
function lengthOf(bytes) {
  const marker = bytes[0];
  if (marker >= 0xa0 && marker <= 0xbf) return 1 + (marker & 31);
  if (marker === 0xd9) return 2 + bytes[1];
  if (marker === 0xda) return 3 + bytes.readUInt16BE(1);
  throw new Error("no text");
}

function tags(rest) {
  try {
    const [number, from] = rest[0] === 0xdc ? [rest.readUInt16BE(1), 3] : [rest[0] & 15, 1];
    const [names, length] = documents(rest.subarray(from), number);
    return [names, from + length];
  } catch {
    return null;
  }
}

function standing(header, own, now) {
  const { kind, version, shape, fresh_until_millis: fresh } = header;
  if (kind === "guard" || (kind === "value" && version > VERSION)) return "protected";
  if (kind !== "value" || version < VERSION || shape !== own) return "replaceable";
  return fresh !== undefined && fresh <= now ? "stale" : "own";
}

// The time until which the epoch of a tag leaves an entry fresh; null: it is invalidated.
function until(epoch, header) {
  const [hard, due = 0n, soft = 0n, start = 0n, length = 0n] = decode(Buffer.from(epoch, "hex"), {
    useBigInt64: true,
  });
  if (header.clock < hard) return null;
  if (header.clock < due) return 0n;
  if (header.clock >= soft) return 1n << 64n;
  return start + (length * header.stamp_random) / 4095n;
}

// The document in the `bin` of a compressed payload.
function unpacked(content, flags) {
  const length = content[0] === BIN ? content.readUInt32BE(1) : -1;
  if (length !== content.length - 5) throw new Corrupt();
  const size = content.readUInt32BE(5);
  const compressed = content.subarray(9);
  if (size > MOST) throw new Corrupt();
  const document = new Uint8Array(size);
  try {
    const written =
      flags === ZSTD
        ? decompress(compressed, document).length
        : decompressBlock(compressed, document, 0, compressed.length, 0);
    if (written === size) return document;
  } catch {}
  throw new Corrupt();
}

// The value; null for an encrypted one.
function payload(document, { flags = 0, shape }) {
  if (flags & ENCRYPTED) return null;
  if (flags) document = unpacked(document, flags);
  let value;
  try {
    // It also refuses bytes after the document.
    value = new Decoder().decode(document);
  } catch {
    throw new Corrupt();
  }
  if (shape !== 0) value = byName(value);
  const whole = typeof value?.id === "number" && typeof value?.name === "string";
  if (levels(value) > LEVELS || !whole) throw new Corrupt();
  return { id: value.id, name: value.name };
}

// The fields of a compact value are in the order of the type.
function byName(value) {
  if (!Array.isArray(value) || value.length !== 2) throw new Corrupt();
  return { id: value[0], name: value[1] };
}

function levels(value) {
  let deepest = 0;
  const todo = [[value, 0]];
  while (todo.length > 0) {
    const [part, level] = todo.pop();
    deepest = Math.max(deepest, level);
    if (part !== null && typeof part === "object") {
      todo.push(...Object.values(part).map((inner) => [inner, level + 1]));
    }
  }
  return deepest;
}

// The hasher takes its seed as two halves.
async function hash32(data, seed = 0n) {
  const hasher = await createXXHash3(Number(seed & 0xffffffffn), Number(seed >> 32n));
  return Number(BigInt("0x" + hasher.init().update(data).digest("hex")) & 0xffffffffn);
}

async function get(entry, header, at, shape, epochs, now) {
  const placeholder = header.kind === "lease" || header.kind === "guard";
  if (!placeholder && header.key !== (await hash32(KEY))) throw new Corrupt();
  const rest = entry.subarray(at);
  let document = rest;
  if (header.clock !== undefined) {
    const found = tags(rest);
    if (found === null) {
      if (header.kind === "value") throw new Corrupt();
      return null;
    }
    let end;
    [header.tags, end] = found;
    document = rest.subarray(end);
    const ends = header.tags.map((tag) => (epochs[tag] ? until(epochs[tag], header) : null));
    if (ends.some((end) => end === null || end <= now)) return null;
  }
  if (standing(header, shape, now) !== "own") return null;
  const kind = BigInt(KINDS.indexOf(header.kind));
  const seed =
    (BigInt(header.flags ?? 0) << 56n) | (kind << 48n) | (BigInt(header.version) << 32n) | BigInt(header.key);
  if (header.sum !== (await hash32(rest, seed))) throw new Corrupt();
  return payload(document, header);
}

async function described(vector, shape, epochs, now) {
  const entry = Buffer.from(vector.hex, "hex");
  const result = { name: vector.name };
  let header = null;
  try {
    let at;
    [header, at] = head(entry);
    result.header = header;
    result.standing = standing(header, shape, now);
    const value = await get(entry, header, at, shape, epochs, now);
    return value === null ? { ...result, get: "miss" } : { ...result, get: "value", value };
  } catch (error) {
    if (error instanceof Newer) return { ...result, header: "newer", standing: "protected", get: "miss" };
    if (!(error instanceof Corrupt)) throw error;
    if (header === null) Object.assign(result, { header: null, standing: "corrupt" });
    return { ...result, get: "corrupt" };
  }
}

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const results = [];
const { epochs, now_millis, compact_shape, compact_vectors } = vectors;
for (const vector of vectors.vectors) {
  results.push(await described(vector, 0, epochs, BigInt(now_millis)));
}
for (const vector of compact_vectors) {
  results.push(await described(vector, compact_shape, epochs, BigInt(now_millis)));
}
// All numbers of the vectors are below 2⁵³ once the stamp is split.
console.log(JSON.stringify(results, (_, part) => (typeof part === "bigint" ? Number(part) : part)));
