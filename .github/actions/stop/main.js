'use strict';

const { input, main, run } = require('../runner.js');

main(async () => {
  let worst = 0;
  for (const job of JSON.parse(input('jobs') || '[]')) worst = Math.max(worst, await run(['cancel', job]));
  return worst;
});
