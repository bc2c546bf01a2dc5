// What the actions share: the `runner` command, its words made of an action's inputs, and running it so that whatever
// ends this process ends that one first. Nothing but Node's own modules.
'use strict';

const { spawn, spawnSync } = require('node:child_process');
const { randomUUID } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..', '..');

// An input as GitHub hands it to an action.
function input(name) {
  return (process.env[`INPUT_${name.toUpperCase()}`] || '').trim();
}

// `--name value` for each input that was given.
function options(names) {
  return names.flatMap((name) => (input(name) ? [`--${name}`, input(name)] : []));
}

// Words of a line, as a shell would part them; quotes keep blanks.
function words(text) {
  return (text.match(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g) || []).map((word) => word.replace(/["']/g, ''));
}

// `runner`, installed from this very checkout where the machine has none.
function command() {
  if (spawnSync('runner', ['--version'], { stdio: 'ignore' }).status === 0) return 'runner';
  const folder = path.join(process.env.RUNNER_TEMP || os.tmpdir(), 'gpu-runner');
  const found = path.join(folder, 'bin', 'runner');
  if (fs.existsSync(found)) return found;
  for (const [program, args] of [
    ['python3', ['-m', 'venv', folder]],
    [path.join(folder, 'bin', 'pip'), ['install', '--quiet', `${ROOT}[${input('extras') || 'forges'}]`]],
  ]) {
    const done = spawnSync(program, args, { stdio: 'inherit' });
    if (done.status !== 0) throw new Error(`${program} ${args[0]} failed`);
  }
  return found;
}

// The exit code. A signal is passed on, and what it does there is waited for.
function run(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command(), args, { stdio: ['ignore', 'inherit', 'inherit'] });
    for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
    child.on('error', reject);
    child.on('close', (code) => resolve(code === null ? 130 : code));
  });
}

// For this action's post step, where it comes back as STATE_name.
function save(name, value) {
  const mark = randomUUID();
  fs.appendFileSync(process.env.GITHUB_STATE, `${name}<<${mark}${os.EOL}${value}${os.EOL}${mark}${os.EOL}`);
}

// Ends the process with what `work` gives.
function main(work) {
  work().then(
    (code) => process.exit(code),
    (error) => {
      console.log(`::error::${String(error.message).replace(/[\r\n]+/g, ' ')}`);
      process.exit(1);
    },
  );
}

module.exports = { input, main, options, run, save, words };
