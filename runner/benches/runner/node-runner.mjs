// A minimal runner of NanoClaw's shape, for comparison only: it reads the run
// document from standard input, starts the agent as the SDK does, looks into
// the input folder every 500 ms, and writes one record per result.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';

const document = JSON.parse(fs.readFileSync(0, 'utf8'));
const { agent, paths } = document.drawbridge;
const input = path.join(paths.ipc, 'input');
fs.mkdirSync(input, { recursive: true });

const [program, ...args] = agent.command;
const child = spawn(program, args, { cwd: paths.workspace, stdio: ['pipe', 'pipe', 'inherit'] });
const send = (text) =>
  child.stdin.write(JSON.stringify({ type: 'user', message: { role: 'user', content: text } }) + '\n');
send(document.prompt);

const poll = setInterval(() => {
  const close = path.join(input, '_close');
  if (fs.existsSync(close)) {
    fs.unlinkSync(close);
    clearInterval(poll);
    child.stdin.end();
    return;
  }
  for (const name of fs.readdirSync(input).filter((name) => name.endsWith('.json')).sort()) {
    const file = path.join(input, name);
    const message = JSON.parse(fs.readFileSync(file, 'utf8'));
    fs.unlinkSync(file);
    send(message.text);
  }
}, 500);

readline.createInterface({ input: child.stdout }).on('line', (line) => {
  const message = JSON.parse(line);
  if (message.type !== 'result') return;
  const record = { status: 'success', result: message.result ?? null };
  process.stdout.write(
    `---NANOCLAW_OUTPUT_START---\n${JSON.stringify(record)}\n---NANOCLAW_OUTPUT_END---\n`);
});
