// Standard Webhooks' own library and Replicate's client: node webhooks.mjs SECRET DELIVERY…
// A delivery is JSON of its headers and body; prints what each library makes of each.
import { validateWebhook } from 'replicate';
import { Webhook } from 'standardwebhooks';

const [secret, ...deliveries] = process.argv.slice(2);

const attempt = async (verify) => {
  try {
    return await verify();
  } catch (error) {
    return { error: error.name };
  }
};

const found = [];
for (const { headers, body } of deliveries.map((text) => JSON.parse(text))) {
  found.push({
    standard: await attempt(() => new Webhook(secret).verify(body, headers)),
    replicate: await attempt(() => validateWebhook({ headers, body }, secret)),
  });
}
console.log(JSON.stringify(found));
