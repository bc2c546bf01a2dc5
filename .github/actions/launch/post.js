// After the job, however it ended: what a launch that was cut off may have left is cancelled. One that came is not
// touched, because the jobs that it was launched for are still to come.
'use strict';

const { main, run } = require('../runner.js');

main(async () => {
  if (process.env.STATE_launched === 'yes' || !process.env.STATE_words) return 0;
  return run([...JSON.parse(process.env.STATE_words), '--cancel']);
});
