/** What the BMCs of the demo's servers show. */

import type { HostEvents, HostSensors, Sensor } from "../kinds";
import { ago } from "./objects";

const temperature = (name: string, reading: number | undefined, high: number, health = "OK"): Sensor => ({
  name, type: "temperature", unit: "°C", ...(reading === undefined ? {} : { reading, health }), caution: { high }, critical: { high: high + 8 },
});

export function sensors(on: boolean): HostSensors {
  return {
    readAt: new Date().toISOString(),
    health: "Critical",
    sensors: [
      temperature("Inlet", 43, 42, "Warning"),
      temperature("CPU 1", on ? 61 : undefined, 88),
      temperature("Board", on ? 38.5 : 25, 70),
      ...[1, 2, 3, 4].map((at): Sensor => ({ name: `Fan ${at}`, type: "fan", unit: "RPM", reading: on ? 7080 + 60 * at : 0, health: "OK" })),
      { name: "System", type: "power", unit: "W", reading: on ? 287 : 14 },
      { name: "PSU 1", type: "power", unit: "W", reading: on ? 287 : 14, health: "OK" },
      { name: "PSU 2", type: "power", unit: "W", reading: 0, health: "Critical" },
      { name: "12 V", type: "voltage", unit: "V", reading: 12.06, health: "OK", critical: { low: 10.8, high: 13.2 } },
    ],
    // Some BMCs say the same of several chassis.
    gaps: on ? [] : ["power: status 500", "power: status 500"],
  };
}

const ENTRIES = [
  { severity: "Warning", about: "Temperature", message: "The inlet temperature is above its upper caution threshold." },
  { severity: "Critical", about: "Power Supply", message: "Power supply 2 has lost its input." },
  { severity: "OK", about: "Drive", message: "The drive in bay 3 was inserted." },
];
const TOTAL = 72;
const PAGE = 50;

export function log(skip: number): HostEvents {
  const entries = Array.from({ length: Math.min(PAGE, TOTAL - skip) }, (_, index) => {
    const at = skip + index;
    return { id: String(TOTAL - at), created: ago(900 + at * 5400).replace(/\.\d+Z$/, "Z"), ...(ENTRIES[at % ENTRIES.length] ?? { message: "" }) };
  });
  return { readAt: new Date().toISOString(), log: "Sel", total: TOTAL, entries };
}
