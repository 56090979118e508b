package dev.pocketrec;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.util.Arrays;
import java.util.Collections;
import org.junit.jupiter.api.Test;

/** The calls read well from Java, too. */
class JavaCallerTest {
    private static final File PLAIN = new File(System.getProperty("pocketrec.vectors"), "bundles/plain");

    @Test
    void recommendsFromJava() {
        try (Recommender recommender = Recommender.load(PLAIN)) {
            Recommendations found = recommender.recommend(Arrays.asList("item-1", "nobody"), 5);
            assertEquals(5, found.size());
            assertEquals(Collections.singletonList("nobody"), found.getUnknown());
            Session session = recommender.session();
            assertTrue(session.observe("item-1"));
            assertEquals(found.get(0).getItemId(), session.recommend(5).get(0).getItemId());
            ItemTrie few = recommender.addCatalogue("few", Arrays.asList("item-2", "item-3"));
            assertEquals(2, recommender.recommend(Collections.emptyList(), 10, true, few).size());
        }
    }
}
