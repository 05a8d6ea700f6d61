// OpenAI's JavaScript client: node openai.mjs BASE_URL API_KEY SCENARIO; prints what it got as JSON.
import { readFile } from 'node:fs/promises';
import OpenAI, { toFile } from 'openai';

const [baseURL, apiKey, scenario, picture, mask] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });

async function events(stream) {
  const seen = [];
  for await (const event of stream) seen.push(event);
  return seen;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    const { status, code, param, type, requestID, message } = error;
    return { name: error.constructor.name, status, code, param, type, requestID, message };
  }
  throw new Error('it did not fail');
}

const file = async (path) => toFile(await readFile(path), 'picture.png', { type: 'image/png' });

const scenarios = {
  generate: () =>
    client.images.generate({ prompt: 'a cat', n: 2, model: null, seed: 5, num_inference_steps: 3 }),
  stream: async () =>
    events(await client.images.generate({ prompt: 'a cat', stream: true, partial_images: 2 })),
  edit: async () =>
    client.images.edit({ prompt: 'a cat', image: [await file(picture)], mask: await file(mask), seed: 5 }),
  variation: async () => client.images.createVariation({ image: await file(picture) }),
  models: async () => [
    (await client.models.list()).data,
    await client.models.retrieve('acme/tiny'),
  ],
  badSize: () => failure(client.images.generate({ prompt: 'a cat', size: '13x7' })),
  badModel: () => failure(client.images.generate({ prompt: 'a cat', model: 'nothing' })),
  failedJob: () => failure(client.images.generate({ prompt: 'a cat' })),
  failedStream: async () =>
    failure(events(await client.images.generate({ prompt: 'a cat', stream: true }))),
};

console.log(JSON.stringify(await scenarios[scenario]()));
