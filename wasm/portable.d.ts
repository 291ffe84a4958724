// What engine.export and engine.import load when they are first called. Import it by name to have it from the start: where
// the network may be gone by then, and in service workers that are not bundled, which may not import later.

import type { Engine } from './index.js';

/** engine.export(agent) */
export function exportAgent(engine: Engine, ...rest: Parameters<Engine['export']>): ReturnType<Engine['export']>;
/** engine.import(bytes, options) */
export function importAgent(engine: Engine, ...rest: Parameters<Engine['import']>): ReturnType<Engine['import']>;
