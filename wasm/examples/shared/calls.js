// The calls: a model behind an OpenAI-compatible endpoint, and a webhook that takes what was approved.

import { CallFailure } from 'persistent-agent';

const TEXT_MAX = 300;

/** Seconds or a date, as RFC 9110 has it: in milliseconds from now. */
export function retryAfterMs(header, now = Date.now()) {
  if (!header) return 0;
  const ms = /^\s*\d+(\.\d+)?\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isFinite(ms) ? Math.min(Math.max(0, Math.ceil(ms)), 24 * 3600 * 1000) : 0;
}

/** 408, 425, 429 and 5xx pass; any other 4xx would be the same again. Network errors are thrown as they are: retried. */
async function post(url, headers, body, { key, signal }) {
  const response = await fetch(url, {
    method: 'POST',
    body: JSON.stringify(body),
    signal,
    redirect: 'manual',
    headers: { 'content-type': 'application/json', 'idempotency-key': key, ...headers },
  });
  if (response.ok) return response;
  const text = (await response.text().catch(() => '')).slice(0, TEXT_MAX);
  const passes = response.status >= 500 || [408, 425, 429].includes(response.status);
  throw new CallFailure(`HTTP ${response.status}${text && `: ${text}`}`, {
    final: !passes,
    code: response.status,
    retryAfterMs: passes ? retryAfterMs(response.headers.get('retry-after')) : 0,
  });
}

/** `env`: MODEL_URL (up to and without /v1), MODEL_KEY, MODEL_NAME; DELIVER_URL, absent: nothing is sent anywhere. */
export const callsOf = (env) => ({
  async model(request, context) {
    if (!env.MODEL_URL) throw new CallFailure('MODEL_URL is not set', { final: true });
    const url = `${env.MODEL_URL.replace(/\/+$/, '').replace(/\/v1$/, '')}/v1/chat/completions`;
    const headers = env.MODEL_KEY ? { authorization: `Bearer ${env.MODEL_KEY}` } : {};
    const response = await post(
      url,
      headers,
      { model: env.MODEL_NAME || 'default', messages: context.json().messages },
      context,
    );
    const answer = await response.json().catch(() => undefined);
    const text = answer?.choices?.[0]?.message?.content;
    if (typeof text !== 'string' || text.trim() === '') throw new CallFailure('the model answered without a text');
    return text;
  },

  async deliver(request, context) {
    if (!env.DELIVER_URL) return 'kept here';
    const response = await post(env.DELIVER_URL, {}, { agent: context.agent, ...context.json() }, context);
    await response.body?.cancel();
    return `delivered: HTTP ${response.status}`;
  },
});
