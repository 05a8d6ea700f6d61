// Replicate's JavaScript client: node replicate.mjs BASE_URL TOKEN SCENARIO [ARGUMENT]; prints JSON.
import { readFile } from 'node:fs/promises';
import Replicate, { parseProgressFromLogs, validateWebhook } from 'replicate';

const [baseUrl, auth, scenario, argument] = process.argv.slice(2);
const client = new Replicate({ auth, baseUrl });
const model = 'glide/tiny';
const input = { prompt: 'a red apple', seed: 5, num_inference_steps: 3 };

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { name: error.name, message: error.message, status: error.response?.status };
  }
  throw new Error('it did not fail');
}

async function collected(events) {
  const seen = [];
  for await (const { event, data, id } of events) seen.push({ event, id, data: await shown(data) });
  return seen;
}

// A file is read through the client, which sends no token for it.
async function shown(data) {
  if (typeof data === 'string') return data;
  const blob = await data.blob();
  return { url: data.url().href, type: blob.type, size: blob.size };
}

async function ran(options = {}) {
  const seen = [];
  const output = await client.run(model, { input, ...options }, (prediction) =>
    seen.push({ status: prediction.status, progress: parseProgressFromLogs(prediction) }),
  );
  return { output, seen };
}

async function picture() {
  return new Blob([await readFile(argument)], { type: 'image/png' });
}

const scenarios = {
  block: () => ran(),
  shortBlock: () => ran({ wait: { mode: 'block', timeout: 1 } }),
  poll: () => ran({ wait: { mode: 'poll', interval: 20 } }),
  version: async () => {
    const { latest_version } = await client.models.get('glide', 'tiny');
    return client.run(`${model}:${latest_version.id}`, { input });
  },
  failed: () => failure(client.run(model, { input })),
  refused: () => failure(client.run(model, { input: { ...input, width: 13 } })),
  predictions: async () => {
    const created = await client.predictions.create({ model, input });
    const ended = await client.wait(created, { interval: 20 });
    const found = await client.predictions.get(created.id);
    const listed = await client.predictions.list();
    return { created, ended, found, listed };
  },
  deployment: () => client.deployments.predictions.create('glide', 'tiny', { input }),
  cancel: async () => {
    const { id } = await client.predictions.create({ model, input });
    return [await client.predictions.cancel(id), await client.predictions.cancel(id)];
  },
  pages: async () => {
    for (let k = 0; k < 101; k += 1) await client.predictions.create({ model, input });
    const lengths = [];
    for await (const page of client.paginate(client.predictions.list)) lengths.push(page.length);
    return lengths;
  },
  stream: () => collected(client.stream(model, { input })),
  plainStream: () => collected(client.stream(model, { input, useFileOutput: false })),
  failedStream: () => failure(collected(client.stream(model, { input }))),
  files: async () => {
    const file = await client.files.create(await picture(), { my: 'tag' });
    const found = await client.files.get(file.id);
    const listed = await client.files.list();
    return { file, found, listed, deleted: await client.files.delete(file.id) };
  },
  edit: async () => client.run(model, { input: { ...input, image: await picture() } }),
  inlineEdit: async () => {
    const image = `data:image/png;base64,${await readFile(argument, 'base64')}`;
    return client.run(model, { input: { ...input, image } });
  },
  models: async () => ({
    listed: await client.models.list(),
    found: await client.models.get('acme', 'tiny'),
    versions: await client.models.versions.list('glide', 'tiny'),
  }),
  place: async () => [await client.accounts.current(), await client.hardware.list()],
  validate: async () => {
    const { key } = await client.webhooks.default.secret.get();
    const { headers, body } = JSON.parse(await readFile(argument, 'utf8'));
    const changed = { headers, body: `${body} ` };
    return [await validateWebhook({ headers, body }, key), await validateWebhook(changed, key)];
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
