'use strict';

const { input, main, options, run, words } = require('../runner.js');

main(() => run(['report', ...options(['title', 'target']), ...words(input('args')), '--post']));
