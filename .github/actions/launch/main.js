'use strict';

const { input, main, options, run, save, words } = require('../runner.js');

const NAMES = ['gpu', 'cpus', 'memory', 'disk', 'provider', 'region', 'instance-type', 'max-price', 'pool', 'count', 'jobs',
  'labels', 'repo', 'idle-timeout', 'max-lifetime', 'name', 'wait'];

main(async () => {
  const asked = ['launch', ...options(NAMES), ...words(input('args'))];
  save('words', JSON.stringify(asked)); // before anything is rented: whatever ends this step, the post step knows
  const code = await run(asked);
  if (code === 0) save('launched', 'yes');
  return code;
});
