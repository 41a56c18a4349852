/** The shapes that travel, by the names that the coordinator's document gives them. */

import type { components } from "./api.js";

export type Schemas = components["schemas"];
