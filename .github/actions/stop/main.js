'use strict';

const { input, main, run } = require('../runner.js');

main(async () => {
  const jobs = input('jobs');
  if (!jobs) return run(['cancel', '--of-run']);
  let worst = 0;
  for (const job of JSON.parse(jobs)) worst = Math.max(worst, await run(['cancel', job]));
  return worst;
});
