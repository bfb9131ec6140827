// A contender of the bench `report`: GLIDE for Node, with JSON that zod checks.
//
// Lines of JSON come on standard input. The first has the server's host and port, and the values.
// Each further one is a cell: an operation, a number of tasks, a time, and whether the time of each
// operation is asked for. The answer to each is a line on standard output.

import { createInterface } from "node:readline";
import { GlideClient, TimeUnit } from "@valkey/valkey-glide";
import { z } from "zod";

const User = z.object({
  id: z.number().int(),
  name: z.string(),
  email: z.string(),
  city: z.string(),
  created: z.number().int(),
  active: z.boolean(),
  tags: z.array(z.string()),
});

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const line = async () => {
  const { value, done } = await lines.next();
  return done ? null : JSON.parse(value);
};
const answer = (value) => process.stdout.write(JSON.stringify(value) + "\n");

const { host, port, ttl, bulk, users } = await line();
const client = await GlideClient.createClient({
  addresses: [{ host, port }],
  requestTimeout: 20_000,
  inflightRequestsLimit: 4096,
});
const expiry = { type: TimeUnit.Milliseconds, count: ttl };
const key = (id) => `glide:${id}`;

const check = (json, expected) => {
  const found = User.parse(JSON.parse(json));
  const same =
    found.id === expected.id &&
    found.name === expected.name &&
    found.email === expected.email &&
    found.city === expected.city &&
    found.created === expected.created &&
    found.active === expected.active &&
    found.tags.length === expected.tags.length &&
    found.tags.every((tag, at) => tag === expected.tags[at]);
  if (!same) throw new Error(`another value was read for ${expected.id}`);
};

const operations = {
  get: async (id) => check(await client.get(key(id)), users[id]),
  set: async (id) => {
    await client.set(key(id), JSON.stringify(users[id]), { expiry });
  },
  bulk: async (id) => {
    const ids = Array.from({ length: bulk }, (_, more) => (id + more) % users.length);
    const found = await client.mget(ids.map(key));
    found.forEach((json, at) => check(json, users[ids[at]]));
  },
};

const cell = async ({ operation, tasks, millis, latencies }) => {
  const run = operations[operation];
  const began = performance.now();
  const nanos = [];
  let count = 0;
  const task = async (id) => {
    let now = performance.now();
    while (now < began + millis) {
      await run(id % users.length);
      const ended = performance.now();
      if (latencies) nanos.push(Math.round((ended - now) * 1e6));
      now = ended;
      count += 1;
      id += 1;
    }
  };
  const first = (at) => Math.floor((at * users.length) / tasks);
  await Promise.all(Array.from({ length: tasks }, (_, at) => task(first(at))));
  return { throughput: (count * 1000) / (performance.now() - began), nanos };
};

for (let id = 0; id < users.length; id += 1) await operations.set(id);
answer({ ready: true });
for (let asked = await line(); asked !== null; asked = await line()) answer(await cell(asked));
client.close();
