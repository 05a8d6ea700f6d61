// Hugging Face's JavaScript client: node huggingface.mjs ENDPOINT API_KEY SCENARIO [PICTURE].
import { readFile } from 'node:fs/promises';
import { InferenceClient } from '@huggingface/inference';

const [endpointUrl, apiKey, scenario, picture] = process.argv.slice(2);
const client = new InferenceClient(apiKey);

const base64 = async (blob) => ({
  type: blob.type,
  base64: Buffer.from(await blob.arrayBuffer()).toString('base64'),
});

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { name: error.name, message: error.message, status: error.httpResponse?.status };
  }
  throw new Error('it did not fail');
}

const inputs = 'a cat';
const parameters = { seed: 5, num_inference_steps: 3 };
const scenarios = {
  textToImage: async () => base64(await client.textToImage({ endpointUrl, inputs, parameters })),
  bare: async () => base64(await client.textToImage({ endpointUrl, inputs })),
  imageToImage: async () =>
    base64(
      await client.imageToImage({
        endpointUrl,
        inputs: new Blob([await readFile(picture)]),
        parameters: { prompt: 'a cat', strength: 0.5 },
      }),
    ),
  refused: () => failure(client.textToImage({ endpointUrl, inputs, parameters: { width: 13 } })),
  failed: () => failure(client.textToImage({ endpointUrl, inputs })),
};

console.log(JSON.stringify(await scenarios[scenario]()));
