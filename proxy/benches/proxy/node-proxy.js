// A minimal reverse proxy in the usual Node shape: read the request body whole,
// swap the key, pipe the answer back.
'use strict';
const http = require('node:http');
const https = require('node:https');

const [port, upstream] = process.argv.slice(2);
const target = new URL(upstream);
const client = target.protocol === 'https:' ? https : http;
const agent = new client.Agent({ keepAlive: true });

const server = http.createServer((req, res) => {
  if (req.headers['x-api-key'] !== process.env.BENCH_TOKEN) {
    res.writeHead(401).end();
    return;
  }
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const body = Buffer.concat(chunks);
    const headers = { ...req.headers, host: target.host, 'content-length': body.length };
    for (const name of ['connection', 'keep-alive', 'transfer-encoding', 'authorization', 'cookie']) {
      delete headers[name];
    }
    headers['x-api-key'] = process.env.BENCH_KEY;
    headers['accept-encoding'] = 'identity';
    const options = {
      agent,
      hostname: target.hostname,
      port: target.port,
      path: req.url,
      method: req.method,
      headers,
    };
    const forwarded = client.request(options, (answer) => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    forwarded.on('error', () => {
      if (!res.headersSent) res.writeHead(502);
      res.end();
    });
    res.on('close', () => forwarded.destroy());
    forwarded.end(body);
  });
});
server.listen(Number(port), '127.0.0.1');
process.stdin.resume().on('end', () => process.exit(0));
