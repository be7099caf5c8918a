// The stopwatch: runs take turns, and whoever began one round ends the next, so that whatever else the device does
// falls on all alike. A run shorter than `least` milliseconds is repeated, since browsers round their clock.

export const median = (values) => quantile(values, 0.5);

export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b), place = share * (sorted.length - 1), low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

async function lap(run, times) {
  const began = performance.now();
  for (let i = 0; i < times; i++) await run();
  return (performance.now() - began) / times;
}

// Milliseconds of a run for each of `runs` ({name: async function}) and each of `rounds`: {name: [ms, …]}.
export async function inTurns(runs, rounds, least = 30, told = () => {}) {
  const names = Object.keys(runs), times = {}, taken = {};
  for (const name of names) {
    await runs[name](); // the first is slow: memory is asked for, code is compiled
    times[name] = Math.max(1, Math.ceil(least / Math.max(0.1, await lap(runs[name], 1))));
    taken[name] = [];
  }
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 ? [...names].reverse() : names) taken[name].push(await lap(runs[name], times[name]));
    told(round + 1);
  }
  return taken;
}
